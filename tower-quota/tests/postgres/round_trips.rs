//! How often the server is asked: messages are counted between it and the store.

use tower_quota::{Amounts, Dimension, QuotaStore, Released, Renewed, Settled, Subject, Ticket};

use crate::{
    support::{Database, MANY, call, connect},
    wire::Wire,
};

#[tokio::test]
async fn each_operation_is_one_round_trip() {
    let Some(database) = Database::new().await else {
        return;
    };
    let wire = Wire::to(&database).await;
    let store = connect(&database.url_by(wire.port), MANY).await;
    let subject = Subject::new("alice").under("team").under("org");
    let charge = call(subject.clone()).exactly(Dimension::Tokens, 1);
    store.reserve(&charge).await.unwrap();

    let mut begun = wire.asked();
    let mut trips = |what: &str, lawful: usize| {
        let trips = wire.asked() - begun;
        begun = wire.asked();
        println!("{what}: {trips}");
        assert_eq!(trips, lawful, "{what}");
    };
    for _ in 0..100 {
        store.reserve(&charge).await.unwrap();
    }
    trips("100 reservations", 100);
    let ticket = store.reserve(&charge).await.unwrap().into_ticket();
    trips("reserve", 1);
    assert_eq!(store.renew(&ticket).await.unwrap(), Renewed::Applied);
    trips("renew", 1);
    assert_eq!(store.release(&ticket).await.unwrap(), Released::Applied);
    trips("release", 1);
    store
        .settle(&ticket, Amounts::new().calls(1))
        .await
        .unwrap();
    trips("settle", 1);
    store.standings(&subject).await.unwrap();
    trips("standings", 1);
    let terms = store.terms(&subject).await.unwrap();
    trips("terms", 1);
    assert!(store.set_terms(&subject, terms).await.unwrap());
    trips("set_terms", 1);
    store.reserve(&charge).await.unwrap();
    trips("reserve by new terms of one's own", 1);
    let other = database.store(MANY).await;
    let terms = other.terms(&subject).await.unwrap();
    assert!(other.set_terms(&subject, terms).await.unwrap());
    store.reserve(&charge).await.unwrap();
    trips("reserve by terms that another changed", 2);
    store.reserve(&charge).await.unwrap();
    trips("reserve by terms that are known", 1);
    let elsewhere = Ticket::new(!ticket.id(), "alice", ticket.admitted_at());
    store
        .count(&elsewhere, Amounts::new().calls(1))
        .await
        .unwrap();
    trips("count", 1);
    let settled = store.settle(&elsewhere, Amounts::new()).await.unwrap();
    assert_eq!(settled, Settled::Unknown);
    trips("settle another database's", 0);
    database.end().await;
}
