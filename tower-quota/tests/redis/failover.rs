//! A name that stands for another server by now.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tower_quota::{
    Amounts, Charge, Dimension, Limit, Limits, QuotaStore as _, RedisStore, Settled, Window,
};

use crate::support::{Server, client, run};

/// Connects those who come to whatever port is set at that moment.
async fn proxy(target: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let port = target.load(Ordering::SeqCst);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_goes_on_with_what_was_counted() {
    let (Some(first), Some(second)) = (Server::start().await, Server::start().await) else {
        return;
    };
    let (one, two) = (client(&first.url()).await, client(&second.url()).await);
    let target = Arc::new(AtomicU16::new(first.port()));
    let port = proxy(Arc::clone(&target)).await;
    let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Month, 3)]).unwrap();
    let url = format!("redis://127.0.0.1:{port}");
    let store = RedisStore::builder(plan).connect(&url).await.unwrap();
    let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
    let (used, held) = (
        store.reserve(&charge).await.unwrap(),
        store.reserve(&charge).await.unwrap(),
    );
    let a_call = Amounts::new().calls(1);
    store.settle(used.ticket(), a_call).await.unwrap();

    run::<String>(&one, "CONFIG SET repl-diskless-sync-delay 0").await;
    run::<String>(&two, &format!("REPLICAOF 127.0.0.1 {}", first.port())).await;
    while !run::<String>(&two, "INFO replication")
        .await
        .contains("master_link_status:up")
    {
        sleep(Duration::from_millis(20)).await;
    }
    run::<i64>(&one, "WAIT 1 5000").await;
    run::<String>(&two, "REPLICAOF NO ONE").await;
    run::<String>(&one, &format!("REPLICAOF 127.0.0.1 {}", second.port())).await;
    target.store(second.port(), Ordering::SeqCst);

    let begun = Instant::now();
    while let Err(error) = store.settle(held.ticket(), a_call).await {
        assert!(begun.elapsed() < Duration::from_secs(10), "{error:?}");
        sleep(Duration::from_millis(20)).await;
    }
    println!("goes on after {:?}", begun.elapsed());
    let again = store.settle(used.ticket(), a_call).await.unwrap();
    assert_eq!(again, Settled::AlreadySettled);
    store.reserve(&charge).await.unwrap();
    store.reserve(&charge).await.unwrap_err();
    assert!(!store.lost());
}
