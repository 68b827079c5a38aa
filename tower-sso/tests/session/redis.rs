//! What is left in Redis, how long much takes, and a connection that is lost before the answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use fred::{
    clients::Client,
    interfaces::{ClientLike as _, LuaInterface as _},
    types::{Builder, FromValue, config::Config},
};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tower_sso::session::{End, Key, Kind, Record, RedisStore, Store as _};

use crate::support::record;

/// The server's URL, if there is one.
fn url() -> Option<String> {
    let url = std::env::var("TOWER_SSO_TEST_REDIS").ok();
    if url.is_none() {
        println!("not tested: TOWER_SSO_TEST_REDIS is not set");
    }
    url
}

/// A user whom no other test knows.
fn user() -> String {
    let record = record("redis", Kind::Session);
    format!("user-{}", record.key)
}

async fn client(url: &str) -> Client {
    let client = Builder::from_config(Config::from_url(url).unwrap())
        .build()
        .unwrap();
    client.init().await.unwrap();
    client
}

async fn ask<T: FromValue>(client: &Client, command: &str, key: &str) -> T {
    let script = format!("return redis.call('{command}', KEYS[1])");
    client
        .eval(script, key, Vec::<String>::new())
        .await
        .unwrap()
}

fn indexes(user: &str) -> [String; 3] {
    [
        format!("sso:user:{user}"),
        format!("sso:sub:4:corp:{user}"),
        format!("sso:sid:4:corp:sid-of-{user}"),
    ]
}

fn with_session_id(user: &str) -> Record {
    Record {
        session_id: Some(format!("sid-of-{user}").into()),
        ..record(user, Kind::Session)
    }
}

#[tokio::test]
async fn a_thousand_records_of_one_user_are_listed_and_ended_in_time() {
    let Some(url) = url() else { return };
    let store = RedisStore::connect(&url).await.unwrap();
    let client = client(&url).await;
    let user = user();
    let records: Vec<Record> = (0..1_000).map(|_| with_session_id(&user)).collect();
    for some in records.chunks(100) {
        for answer in join_all(some.iter().map(|record| store.insert(record.clone()))).await {
            answer.unwrap();
        }
    }
    let begun = Instant::now();
    let listed = store.list(&user, Kind::Session).await.unwrap();
    println!("listed after {:?}", begun.elapsed());
    assert_eq!(listed.len(), 1_000);
    let begun = Instant::now();
    let ended = store.end(End::User(user.as_str().into())).await.unwrap();
    println!("ended after {:?}", begun.elapsed());
    assert_eq!(ended, 1_000);
    for index in indexes(&user) {
        let is_there: i64 = ask(&client, "EXISTS", &index).await;
        assert_eq!(is_there, 0, "{index} is left");
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_session_that_ended_by_itself() {
    let Some(url) = url() else { return };
    let store = RedisStore::connect(&url).await.unwrap();
    let client = client(&url).await;
    let user = user();
    let kept = with_session_id(&user);
    store.insert(kept.clone()).await.unwrap();
    let other = with_session_id(&user);
    store.insert(other.clone()).await.unwrap();
    assert_eq!(store.end(End::Key(kept.key)).await.unwrap(), 1);
    for index in indexes(&user) {
        let entries: i64 = ask(&client, "ZCARD", &index).await;
        assert_eq!(entries, 1, "{index}");
    }
    assert_eq!(store.end(End::Key(other.key)).await.unwrap(), 1);
    for index in indexes(&user) {
        let is_there: i64 = ask(&client, "EXISTS", &index).await;
        assert_eq!(is_there, 0, "{index}");
    }
}

#[tokio::test]
async fn an_index_lasts_as_long_as_the_last_of_its_records() {
    let Some(url) = url() else { return };
    let store = RedisStore::connect(&url).await.unwrap();
    let client = client(&url).await;
    let user = user();
    let long = with_session_id(&user);
    let later = |seconds| long.created_at + Duration::from_secs(seconds);
    store.insert(long.clone()).await.unwrap();
    let short = Record {
        expires_at: later(60),
        ..with_session_id(&user)
    };
    store.insert(short.clone()).await.unwrap();
    let lasts = async |wanted: i64| {
        for index in indexes(&user) {
            let left: i64 = ask(&client, "PTTL", &index).await;
            let wanted = wanted * 1_000;
            assert!(
                (wanted - 30_000..=wanted).contains(&left),
                "{index}: {left}"
            );
        }
    };
    lasts(600).await;
    assert!(
        store
            .touch(short.key, later(1), later(3_000))
            .await
            .unwrap()
    );
    lasts(3_000).await;
    // And it has all that it names again if it was lost.
    for index in indexes(&user) {
        let _: i64 = ask(&client, "DEL", &index).await;
    }
    assert!(store.touch(long.key, later(1), later(4_000)).await.unwrap());
    lasts(4_000).await;
    let listed = store.list(&user, Kind::Session).await.unwrap();
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn what_an_index_names_in_vain_is_forgotten_when_it_is_met() {
    let Some(url) = url() else { return };
    let store = RedisStore::connect(&url).await.unwrap();
    let client = client(&url).await;
    let user = user();
    let old = Record {
        created_at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        ..with_session_id(&user)
    };
    let new = with_session_id(&user);
    for record in [&old, &new] {
        store.insert(record.clone()).await.unwrap();
        let _: i64 = ask(&client, "DEL", &format!("sso:record:{}", record.key)).await;
    }
    assert!(store.list(&user, Kind::Session).await.unwrap().is_empty());
    let [user_index, subject_index, _] = indexes(&user);
    let entries: i64 = ask(&client, "ZCARD", &user_index).await;
    assert_eq!(entries, 1, "that of just now may be still to come");
    let what = End::Subject {
        provider: "corp".into(),
        subject: user.as_str().into(),
    };
    assert_eq!(store.end(what).await.unwrap(), 0);
    let entries: i64 = ask(&client, "ZCARD", &subject_index).await;
    assert_eq!(entries, 1);
}

/// What is before the host of a URL, and the host with its port.
fn host_of(url: &str) -> (&str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let rest = rest.split('/').next().unwrap();
    let (user, host) = rest
        .rsplit_once('@')
        .map_or(("", rest), |(user, host)| (user, host));
    assert_eq!(scheme, "redis");
    (user, host)
}

/// Passes everything on, but ends the connection instead of giving an answer when it is told to.
async fn wire(url: &str, cuts: Arc<AtomicBool>) -> u16 {
    let server = host_of(url).1.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(&server).await.unwrap();
            let cuts = Arc::clone(&cuts);
            tokio::spawn(async move {
                let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
                loop {
                    tokio::select! {
                        Ok(length @ 1..) = client.read(&mut up) => {
                            server.write_all(&up[..length]).await.unwrap();
                        }
                        Ok(length @ 1..) = server.read(&mut down) => {
                            if cuts.swap(false, Ordering::SeqCst) {
                                return;
                            }
                            client.write_all(&down[..length]).await.unwrap();
                        }
                        else => return,
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn who_was_first_is_told_so_though_the_answer_was_lost() {
    let Some(url) = url() else { return };
    let cuts = Arc::new(AtomicBool::new(false));
    let port = wire(&url, Arc::clone(&cuts)).await;
    let password = host_of(&url).0;
    let at = if password.is_empty() { "" } else { "@" };
    let store = RedisStore::connect(&format!("redis://{password}{at}127.0.0.1:{port}"))
        .await
        .unwrap();
    let until = record("redis", Kind::Session).expires_at;
    // So that the server knows the scripts.
    let kept = with_session_id(&user());
    store.insert(kept.clone()).await.unwrap();
    assert!(
        store
            .claim(Key::of_secret(user().as_bytes()), until)
            .await
            .unwrap()
    );

    let what = Key::of_secret(user().as_bytes());
    cuts.store(true, Ordering::SeqCst);
    assert!(store.claim(what, until).await.unwrap(), "claimed once");
    assert!(!cuts.load(Ordering::SeqCst), "the connection was cut");
    assert!(!store.claim(what, until).await.unwrap(), "claimed twice");

    let next = with_session_id(&user());
    cuts.store(true, Ordering::SeqCst);
    store.insert(next.clone()).await.unwrap();
    assert!(!cuts.load(Ordering::SeqCst), "the connection was cut");
    assert!(store.find(next.key).await.unwrap().is_some());
    assert!(store.insert(with_key(&kept, next.key)).await.is_err());
}

fn with_key(record: &Record, key: Key) -> Record {
    Record {
        key,
        ..record.clone()
    }
}
