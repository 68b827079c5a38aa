//! A connection that leads nowhere any more, or to another server.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{Instant, sleep},
};
use tower_quota::{
    Amounts, Charge, Dimension, Limit, Limits, QuotaStore as _, RedisStore, Settled, Window,
};

use crate::support::{Server, client, run};

/// Between a store and whatever server it is led to.
struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    freeze: Arc<Notify>,
}

// === impl Proxy ===

impl Proxy {
    async fn start(server: &Server) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            target: Arc::new(AtomicU16::new(server.port())),
            freeze: Arc::new(Notify::new()),
        };
        let (target, freeze) = (Arc::clone(&proxy.target), Arc::clone(&proxy.freeze));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let port = target.load(Ordering::SeqCst);
                let freeze = Arc::clone(&freeze);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = freeze.notified() => pending().await,
                    }
                });
            }
        });
        proxy
    }

    async fn connect(&self) -> RedisStore {
        let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Month, 3)]).unwrap();
        let url = format!("redis://127.0.0.1:{}", self.port);
        RedisStore::builder(plan).connect(&url).await.unwrap()
    }

    /// Leads those who come from now on to that server.
    fn lead_to(&self, server: &Server) {
        self.target.store(server.port(), Ordering::SeqCst);
    }

    /// Those who are there hear nothing more, and not that it is the end either.
    fn freeze(&self) {
        self.freeze.notify_waiters();
    }
}

fn call() -> Charge {
    Charge::new("alice").exactly(Dimension::Calls, 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_dead_without_a_word_is_given_up() {
    let Some(server) = Server::start().await else {
        return;
    };
    let proxy = Proxy::start(&server).await;
    let store = proxy.connect().await;
    store.reserve(&call()).await.unwrap();

    proxy.freeze();
    let begun = Instant::now();
    while let Err(error) = store.reserve(&call()).await {
        assert!(begun.elapsed() < Duration::from_secs(10), "{error:?}");
        sleep(Duration::from_millis(20)).await;
    }
    println!("goes on after {:?}", begun.elapsed());
    let standing = store.standings(&"alice".into()).await.unwrap()[0];
    assert_eq!((standing.used(), standing.reserved()), (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_goes_on_with_what_was_counted() {
    let (Some(first), Some(second)) = (Server::start().await, Server::start().await) else {
        return;
    };
    let (one, two) = (client(&first.url()).await, client(&second.url()).await);
    let proxy = Proxy::start(&first).await;
    let store = proxy.connect().await;
    let charge = call();
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
    proxy.lead_to(&second);

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
