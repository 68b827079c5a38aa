//! Several servers that share the slots.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tower_quota::{
    Amounts, Charge, Dimension, Limit, Limits, QuotaStore, RedisStore, Subject, Ticket, Window,
    laws,
};

use crate::support::{Server, builder, client, run};

#[tokio::test]
async fn a_cluster_keeps_every_law() {
    let Some([server, ..]) = &Server::start_cluster().await else {
        return;
    };
    laws::all(&async |plans, clock| {
        let store = builder(plans).lease(laws::LEASE).clock(clock);
        let store = store.connect(&server.cluster_url()).await.unwrap();
        Arc::new(store) as Arc<dyn QuotaStore>
    })
    .await;
}

#[tokio::test]
async fn each_server_that_loses_its_part_closes_the_cluster_until_it_is_reseeded() {
    let Some(servers) = &Server::start_cluster().await else {
        return;
    };
    let limits = [Limit::at_most(Dimension::Calls, Window::Month, 5)];
    let builder = builder(Limits::new(limits).unwrap());
    let [one, two] = [
        builder
            .clone()
            .connect(&servers[0].cluster_url())
            .await
            .unwrap(),
        builder
            .clone()
            .connect(&servers[1].cluster_url())
            .await
            .unwrap(),
    ];
    // Some on every server.
    let people: Vec<Subject> = (0..30).map(|n| format!("user {n}").into()).collect();
    let call = async |store: &RedisStore, who: &Subject| {
        let charge = Charge::new(who.clone()).exactly(Dimension::Calls, 1);
        store.reserve(&charge).await
    };
    for server in servers {
        for who in &people {
            call(&one, who).await.unwrap();
        }
        let client = client(&server.url()).await;
        run::<String>(&client, "FLUSHALL").await;
        let flushed = Instant::now();
        while !(one.lost() && two.lost()) {
            assert!(flushed.elapsed() < Duration::from_secs(5), "nobody notices");
            sleep(Duration::from_millis(10)).await;
        }
        println!("noticed after {:?}", flushed.elapsed());
        call(&one, &people[0]).await.unwrap_err();
        assert!(
            builder
                .clone()
                .await_reseeding()
                .connect(&server.cluster_url())
                .await
                .unwrap()
                .lost()
        );

        let reseeding = two.reseed("two", &[]).await.unwrap();
        let now = std::time::UNIX_EPOCH + Duration::from_millis(now_of(&client).await);
        for (n, who) in (0..).zip(&people) {
            let id = u128::from(reseeding.epoch()) << 64 | n;
            let ticket = Ticket::new(id, who.clone(), now);
            reseeding
                .count(&ticket, Amounts::new().calls(2))
                .await
                .unwrap();
        }
        reseeding.finish().await.unwrap();
        while one.lost() {
            sleep(Duration::from_millis(10)).await;
        }
        for who in &people {
            let standing = one.standings(who).await.unwrap()[0];
            assert_eq!((standing.used(), standing.reserved()), (2, 0), "{who:?}");
        }
    }
}

async fn now_of(client: &fred::clients::Client) -> u64 {
    let [seconds, _]: [u64; 2] = run::<Vec<u64>>(client, "TIME").await.try_into().unwrap();
    seconds * 1_000
}
