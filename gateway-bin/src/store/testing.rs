//! Stores for tests, of each kind.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};
use tower_sso::Identity;

use super::{ActorKind, Assigned, Candidate, EnvironmentRow, Note, Outcome, Store};
use crate::instance::SlotsInUse;

/// Where a test has a store of its own: a file, or a database.
pub(crate) enum Stores {
    File(tempfile::TempDir),
    Database(String),
}

/// A new database in the server that `GATEWAY_TEST_POSTGRES` names: its URL, of a user who may make databases.
pub(crate) struct Database {
    pub(crate) url: String,
    name: String,
    server: String,
}

/// Runs a test with a file and, if there is a server, with a database.
pub(crate) async fn on_each_store<F: Future<Output = ()>>(test: impl Fn(Stores) -> F) {
    test(Stores::File(tempfile::tempdir().unwrap())).await;
    if let Some(database) = Database::new().await {
        test(Stores::Database(database.url.clone())).await;
        database.end().await;
    }
}

// === impl Stores ===

impl Stores {
    /// The store. A file is opened by one at a time.
    pub(crate) async fn open(&self) -> Store {
        match self {
            Self::File(dir) => Store::open(&dir.path().join("gateway.db")).unwrap(),
            Self::Database(url) => Store::connect(url).await.unwrap(),
        }
    }
}

// === impl Database ===

impl Database {
    /// `None`, and the test says that it does nothing, if there is no server.
    pub(crate) async fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let Ok(server) = std::env::var("GATEWAY_TEST_POSTGRES") else {
            println!("not tested: GATEWAY_TEST_POSTGRES is not set");
            return None;
        };
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("gateway_test_{}_{number}", std::process::id());
        let make = format!("CREATE DATABASE {name}");
        client(&server).await.batch_execute(&make).await.unwrap();
        let (host, port) = address(&server);
        let url = with(&server, &host, port, &name);
        Some(Self { url, name, server })
    }

    /// Of the server.
    pub(crate) fn address(&self) -> String {
        let (host, port) = address(&self.server);
        format!("{host}:{port}")
    }

    /// The URL of the same database, on another port of this machine.
    pub(crate) fn url_by(&self, port: u16) -> String {
        with(&self.server, "127.0.0.1", port, &self.name)
    }

    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.url).await.unwrap()
    }

    pub(crate) async fn end(self) {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        client(&self.server)
            .await
            .batch_execute(&drop)
            .await
            .unwrap();
    }
}

fn address(url: &str) -> (String, u16) {
    let config: Config = url.parse().unwrap();
    let [Host::Tcp(host)] = config.get_hosts() else {
        panic!("the tests are for one server by TCP");
    };
    let port = config.get_ports().first().copied();
    (host.clone(), port.unwrap_or(5432))
}

fn with(url: &str, host: &str, port: u16, database: &str) -> String {
    let config: Config = url.parse().unwrap();
    let password = String::from_utf8_lossy(config.get_password().unwrap_or_default());
    let user = config.get_user().unwrap_or("postgres");
    format!("postgres://{user}:{password}@{host}:{port}/{database}")
}

/// A connection of a test's own.
pub(crate) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The slot that somebody gets on an instance that has twenty.
pub(crate) async fn assign(store: &Store, user_id: &Arc<str>, instance: &str) -> u32 {
    let candidate = Candidate {
        instance: instance.to_owned(),
        slots: 20,
        in_use: SlotsInUse::default(),
    };
    let assigned = store.assign_slot(user_id, None, vec![candidate]);
    match assigned.await.unwrap() {
        Assigned::Slot { slot, .. } => slot,
        other => panic!("{other:?}"),
    }
}

/// What is noted of an act of an operator.
pub(crate) fn note(id: &str) -> Note {
    Note {
        id: id.to_owned(),
        act: format!("act-{id}"),
        actor_kind: ActorKind::Operator,
        actor: "0".to_owned(),
        address: Some("unix:7".to_owned()),
        action: "instance.drain".to_owned(),
        user_id: None,
        object: Some("one".to_owned()),
        before: None,
        after: None,
        outcome: Outcome::Done,
        code: None,
    }
}

/// A person of whom little is known.
pub(crate) fn person(user_id: &str) -> Arc<Identity> {
    let identity = Identity::builder("https://issuer.example", user_id);
    Arc::new(identity.email("a@example.com", true).build())
}

/// An environment of somebody.
pub(crate) fn environment(user_id: &str) -> EnvironmentRow {
    EnvironmentRow {
        user_id: user_id.into(),
        instance: "one".to_owned(),
        agent_id: format!("user-{user_id}"),
        agent_spec: String::new(),
        workspace_dir: "/w".to_owned(),
        profile_name: format!("user-{user_id}"),
        auth_profile_id: format!("user-{user_id}-p"),
        has_sandbox: false,
        agent_ready: false,
    }
}
