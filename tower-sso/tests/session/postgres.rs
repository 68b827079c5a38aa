//! What a server that goes away, hangs or lets nobody in does to the store.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};
use tokio_postgres::{Config, NoTls, config::Host};
use tower_sso::session::{Kind, PostgresStore, Record, Store as _, StoreError};

use crate::support::record;

/// The server's URL, if there is one.
fn url() -> Option<String> {
    let url = std::env::var("TOWER_SSO_TEST_POSTGRES").ok();
    if url.is_none() {
        println!("not tested: TOWER_SSO_TEST_POSTGRES is not set");
    }
    url
}

/// The URL with another host, port or password.
fn changed(url: &str, host: &str, port: u16, password: Option<&str>) -> String {
    let config: Config = url.parse().unwrap();
    let own = String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned();
    format!(
        "postgres://{}:{}@{host}:{port}/{}",
        config.get_user().unwrap_or("postgres"),
        password.unwrap_or(&own),
        config.get_dbname().unwrap_or("postgres"),
    )
}

fn address(url: &str) -> (String, u16) {
    let config: Config = url.parse().unwrap();
    let [Host::Tcp(host)] = config.get_hosts() else {
        panic!("the tests are for one server by TCP");
    };
    let port = config.get_ports().first().copied();
    (host.clone(), port.unwrap_or(5432))
}

fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Some of each operation, at once, so that all connections are used.
async fn use_all(store: &PostgresStore, kept: &[Record]) -> Vec<Result<(), StoreError>> {
    let found = kept.iter().map(|record| async {
        // First what is not run twice.
        store.insert(record_of_bob()).await?;
        let found = store.find(record.key).await?;
        assert_eq!(found.unwrap().user_id, record.user_id);
        let touched = store.touch(record.key, record.seen_at, record.expires_at);
        touched.await.map(drop)
    });
    join_all(found).await
}

fn record_of_bob() -> Record {
    record("bob", Kind::Session)
}

async fn keep_some(store: &PostgresStore) -> Vec<Record> {
    let kept: Vec<Record> = (0..3).map(|_| record("alice", Kind::Session)).collect();
    for record in &kept {
        store.insert(record.clone()).await.unwrap();
    }
    // Until there are more connections than one; not many, since without optimisation one takes long to be made, for
    // its password.
    for _ in 0..100 {
        join_all(kept.iter().map(|record| store.find(record.key))).await;
        if !format!("{store:?}").contains("connections: 1") {
            break;
        }
    }
    kept
}

#[tokio::test]
async fn connections_that_the_server_has_closed_fail_nothing() {
    let Some(url) = url() else { return };
    let mark = format!("closed-{}", std::process::id());
    let own = format!("{url}?application_name={mark}");
    let store = PostgresStore::connect(&own).await.unwrap();
    let kept = keep_some(&store).await;

    let (admin, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let ended = admin
        .query(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1",
            &[&mark],
        )
        .await
        .unwrap();
    assert!(ended.len() > 1, "the pool had {} connections", ended.len());
    for answer in use_all(&store, &kept).await {
        answer.unwrap();
    }
}

/// Passes connections on to the server until those that are open are told to stop.
struct Wire {
    port: u16,
    hang: watch::Sender<()>,
    opened: Arc<AtomicUsize>,
}

impl Wire {
    async fn to(host: String, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (hang, _) = watch::channel(());
        let opened = Arc::new(AtomicUsize::new(0));
        let (hanging, counted) = (hang.clone(), Arc::clone(&opened));
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let mut server = TcpStream::connect((&*host, port)).await.unwrap();
                let mut hung = hanging.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = hung.changed() => {
                            // Open, and silent.
                            std::future::pending::<()>().await;
                        }
                    }
                });
            }
        });
        Self {
            port: own,
            hang,
            opened,
        }
    }
}

#[tokio::test]
async fn a_connection_that_hangs_is_waited_for_once() {
    let Some(url) = url() else { return };
    let (host, port) = address(&url);
    let wire = Wire::to(host, port).await;
    let store = PostgresStore::connect(&changed(&url, "127.0.0.1", wire.port, None))
        .await
        .unwrap();
    let kept = keep_some(&store).await;

    wire.hang.send(()).unwrap();
    let begun = Instant::now();
    let answers = join_all((0..3).map(|_| store.find(kept[0].key))).await;
    println!("{answers:?} after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(3));
    let opened = wire.opened.load(Ordering::SeqCst);
    let begun = Instant::now();
    for answer in use_all(&store, &kept).await {
        answer.unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(wire.opened.load(Ordering::SeqCst) > opened, "made anew");
}

#[tokio::test]
async fn what_keeps_the_first_connection_from_being_is_said_without_the_password() {
    let Some(url) = url() else { return };
    let (host, port) = address(&url);
    let free = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    for (url, wanted) in [
        (
            changed(&url, &host, port, Some("sesame-17")),
            "password authentication failed",
        ),
        (
            changed(&url, "127.0.0.1", free, Some("sesame-17")),
            "refused",
        ),
        (
            changed(&url, "nowhere.invalid", port, Some("sesame-17")),
            "lookup",
        ),
        ("postgres://x:sesame-17@h/d?sslmode=full".into(), "sslmode"),
    ] {
        let error = PostgresStore::connect(&url).await.unwrap_err();
        let said = chain(&error);
        println!("{said}");
        assert!(said.contains(wanted), "{said}");
        let shown = format!("{said}{error:?}{error:#?}");
        assert!(!shown.contains("sesame"), "{shown}");
    }
}
