//! A server that goes away, hangs, or lets nobody in.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::store::testing::{Database, client, person};
use crate::store::{Store, StoreError};

/// The way to the server, which can be cut and mended.
struct Way {
    server: String,
    port: u16,
    open: Option<JoinSet<()>>,
}

/// What an operation may take, and a little more.
const BOUND: Duration = Duration::from_millis(2_500);

// === impl Way ===

impl Way {
    async fn open(server: String) -> Self {
        let port = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let mut way = Self {
            server,
            port,
            open: None,
        };
        way.mend().await;
        way
    }

    async fn mend(&mut self) {
        let listener = self.listen().await;
        let server: Arc<str> = self.server.as_str().into();
        let mut open = JoinSet::new();
        open.spawn(async move {
            lead(listener, server).await;
        });
        self.open = Some(open);
    }

    /// As a server that is stopped: connections end, and there are no new ones.
    async fn cut(&mut self) {
        self.open.take().unwrap().shutdown().await;
    }

    /// As a server that has too much to do for the first who comes.
    async fn be_slow_once(&mut self) {
        self.cut().await;
        let listener = self.listen().await;
        let server: Arc<str> = self.server.as_str().into();
        let mut open = JoinSet::new();
        open.spawn(async move {
            let _unanswered = listener.accept().await.unwrap();
            lead(listener, server).await;
        });
        self.open = Some(open);
    }

    /// As a server that hangs: what is sent to it is not answered.
    async fn hang(&mut self) {
        self.cut().await;
        let listener = self.listen().await;
        let mut open = JoinSet::new();
        open.spawn(async move {
            let mut connections = Vec::new();
            loop {
                connections.push(listener.accept().await.unwrap());
            }
        });
        self.open = Some(open);
    }

    async fn listen(&self) -> TcpListener {
        TcpListener::bind(("127.0.0.1", self.port)).await.unwrap()
    }
}

/// Leads everybody who comes to the server.
async fn lead(listener: TcpListener, server: Arc<str>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let server = Arc::clone(&server);
        connections.spawn(async move {
            let mut far = TcpStream::connect(&*server).await.unwrap();
            let _ = copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

async fn fails_in_time(store: &Store) -> StoreError {
    let begun = Instant::now();
    let error = store.ping().await.unwrap_err();
    let took = begun.elapsed();
    assert!(took < BOUND, "{took:?}");
    error
}

#[tokio::test]
async fn a_server_that_was_away_is_used_again() {
    let Some(database) = Database::new().await else {
        return;
    };
    let mut way = Way::open(database.address()).await;
    let store = Store::connect(&database.url_by(way.port)).await.unwrap();
    store.put_user(&person("alice")).await.unwrap();

    way.cut().await;
    let error = fails_in_time(&store).await;
    assert!(matches!(error, StoreError::NoConnection { .. }), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    way.mend().await;
    store.ping().await.unwrap();

    for _ in 0..2 {
        way.hang().await;
        fails_in_time(&store).await;
        way.cut().await;
        way.mend().await;
        store.ping().await.unwrap();
    }
    let alice = store.find_user(&"alice".into()).await.unwrap();
    assert!(alice.is_some());
    database.end().await;
}

#[tokio::test]
async fn a_server_that_is_slow_to_answer_is_asked_again_when_a_gateway_starts() {
    let Some(database) = Database::new().await else {
        return;
    };
    let mut way = Way::open(database.address()).await;
    way.be_slow_once().await;
    let store = Store::connect(&database.url_by(way.port)).await.unwrap();
    store.ping().await.unwrap();
    database.end().await;
}

#[tokio::test]
async fn a_connection_that_is_lost_costs_nobody_their_question() {
    let Some(database) = Database::new().await else {
        return;
    };
    let store = database.store().await;
    let admin = client(&database.url).await;
    for n in 0..10 {
        store.ping().await.unwrap();
        let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        admin.query(end, &[]).await.unwrap();
        store.put_user(&person(&format!("user-{n}"))).await.unwrap();
    }
    database.end().await;
}

#[tokio::test]
async fn who_waits_for_a_lock_waits_two_seconds_and_holds_up_nobody() {
    let Some(database) = Database::new().await else {
        return;
    };
    let store = database.store().await;
    let mut other = client(&database.url).await;
    let locking = other.transaction().await.unwrap();
    let lock = "LOCK TABLE oauth_users IN ACCESS EXCLUSIVE MODE";
    locking.batch_execute(lock).await.unwrap();
    let begun = Instant::now();
    let alice = person("alice");
    assert!(store.put_user(&alice).await.is_err());
    assert!(begun.elapsed() < BOUND);
    store.ping().await.unwrap();
    locking.rollback().await.unwrap();
    store.put_user(&alice).await.unwrap();
    database.end().await;
}

#[tokio::test]
async fn a_gateway_that_is_not_let_in_is_told_why_and_not_by_what_password() {
    let Some(database) = Database::new().await else {
        return;
    };
    let address = database.address();
    for (url, why) in [
        (
            format!("postgres://nobody:canary@{address}/none"),
            "does not exist",
        ),
        (
            "postgres://postgres:canary@127.0.0.1:1/none".to_owned(),
            "refused",
        ),
        (
            "postgres://postgres:canary@127.0.0.1/none?ssl=canary".to_owned(),
            "sslmode",
        ),
        ("canary".to_owned(), "URL"),
    ] {
        let error = Store::connect(&url).await.unwrap_err();
        let mut said = format!("{error:?}");
        let mut source: Option<&dyn Error> = Some(&error);
        while let Some(error) = source {
            said = format!("{said} {error}");
            source = error.source();
        }
        assert!(
            said.contains(why) || said.contains("authentication"),
            "{said}"
        );
        assert!(!said.contains("canary"), "{said}");
    }
    let store = database.store().await;
    assert!(!format!("{store:?}").contains("postgres:"));
    database.end().await;
}
