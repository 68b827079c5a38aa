//! What the tests of sessions have in common.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tower_sso::{
    Identity,
    jwt::Clock,
    session::{
        End, Ended, IssuerTokens, Key, Kind, Lease, MemoryStore, Record, Refresh, RefreshError,
        RefreshFuture, Refreshed, SealingKeys, Sessions, SqliteStore, Store, StoreError,
        StoreFuture,
    },
};

pub(crate) const KEY: [u8; 32] = [7; 32];

pub(crate) fn keys() -> SealingKeys {
    SealingKeys::new([KEY]).unwrap()
}

pub(crate) fn alice() -> Identity {
    person("alice")
}

pub(crate) fn person(name: &str) -> Identity {
    Identity::builder("https://login.example.com", name)
        .provider("corp")
        .email(format!("{name}@example.com"), true)
        .name(format!("{name} of Example"))
        .groups(["staff"])
        .roles(["editor"])
        .scopes(["openid"])
        .session_id(format!("sid-of-{name}"))
        .claims(r#"{"x":1}"#)
        .build()
}

/// A clock that the test sets, some time after now, so that stores with a clock of their own agree that
/// nothing is over.
#[derive(Debug)]
pub(crate) struct Hand(Mutex<SystemTime>);

impl Hand {
    pub(crate) fn new() -> Arc<Self> {
        #[expect(clippy::disallowed_methods, reason = "stores go by the real time")]
        let now = SystemTime::now();
        Arc::new(Self(Mutex::new(now)))
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for Hand {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

/// An issuer that counts what it is asked, and answers as it is told.
#[derive(Debug, Default)]
pub(crate) struct Issuer {
    asked: AtomicU32,
    answer: Mutex<Option<RefreshError>>,
    takes: Mutex<Duration>,
}

impl Issuer {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn answers(&self, error: Option<RefreshError>) {
        *self.answer.lock().unwrap() = error;
    }

    pub(crate) fn takes(&self, time: Duration) {
        *self.takes.lock().unwrap() = time;
    }
}

impl Refresh for Issuer {
    fn refresh(&self, identity: &Identity, tokens: &IssuerTokens) -> RefreshFuture {
        let n = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = *self.answer.lock().unwrap();
        let takes = *self.takes.lock().unwrap();
        assert!(tokens.refresh_token().unwrap().starts_with("refresh-"));
        let renewed = identity.to_builder().name(format!("renewed {n}")).build();
        RefreshFuture::boxed(async move {
            tokio::time::sleep(takes).await;
            match answer {
                Some(error) => Err(error),
                None => Ok(Refreshed::new(
                    IssuerTokens::new(format!("access-{n}"))
                        .with_refresh_token(format!("refresh-{n}")),
                )
                .with_identity(renewed)),
            }
        })
    }
}

/// Tokens that are to be renewed already.
pub(crate) fn due() -> IssuerTokens {
    IssuerTokens::new("access-0")
        .with_refresh_token("refresh-0")
        .with_id_token("id-0")
        .with_refresh_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
}

pub(crate) fn sessions(store: &Arc<dyn Store>, issuer: &Arc<Issuer>) -> Sessions {
    let refresher: Arc<dyn Refresh> = issuer.clone();
    Sessions::new(Arc::clone(store), keys()).refresh_with(refresher)
}

/// All stores that there are here, each by its name.
pub(crate) async fn stores(dir: &Path) -> Vec<(&'static str, Arc<dyn Store>)> {
    let sqlite = SqliteStore::open(&dir.join("sessions.db")).unwrap();
    let mut stores: Vec<(&'static str, Arc<dyn Store>)> = vec![
        ("memory", Arc::new(MemoryStore::new())),
        ("sqlite", Arc::new(sqlite)),
    ];
    stores.extend(shared_stores().await);
    stores
}

/// Stores on servers, where the environment names one.
pub(crate) async fn shared_stores() -> Vec<(&'static str, Arc<dyn Store>)> {
    let mut stores: Vec<(&'static str, Arc<dyn Store>)> = Vec::new();
    for (name, variable) in [
        ("postgres", "TOWER_SSO_TEST_POSTGRES"),
        ("redis", "TOWER_SSO_TEST_REDIS"),
    ] {
        match std::env::var(variable) {
            Ok(url) => stores.push((name, connect(name, &url).await)),
            Err(_) => println!("{name} is not tested: {variable} is not set"),
        }
    }
    stores
}

#[cfg(all(feature = "postgres", feature = "redis"))]
async fn connect(name: &str, url: &str) -> Arc<dyn Store> {
    use tower_sso::session::{PostgresStore, RedisStore};

    if name == "postgres" {
        Arc::new(PostgresStore::connect(url).await.unwrap())
    } else {
        Arc::new(RedisStore::connect(url).await.unwrap())
    }
}

#[cfg(not(all(feature = "postgres", feature = "redis")))]
async fn connect(_: &str, _: &str) -> Arc<dyn Store> {
    panic!("the features `postgres` and `redis` are needed");
}

/// A record of nobody's secret.
pub(crate) fn record(user_id: &str, kind: Kind) -> Record {
    static NEXT: AtomicU32 = AtomicU32::new(0);

    #[expect(clippy::disallowed_methods, reason = "stores go by the real time")]
    let now = SystemTime::now();
    let number = NEXT.fetch_add(1, Ordering::SeqCst);
    Record {
        key: Key::of_secret(format!("{user_id} {number} {now:?}").as_bytes()),
        kind,
        user_id: user_id.into(),
        provider: "corp".into(),
        subject: user_id.into(),
        session_id: None,
        created_at: now,
        seen_at: now,
        expires_at: now + Duration::from_secs(600),
        version: 0,
        data: Bytes::from_static(b"data"),
    }
}

/// A store that is away for some of its operations, when it is told.
#[derive(Debug)]
pub(crate) struct Flaky<S> {
    store: S,
    replacing: AtomicU32,
    away: AtomicBool,
}

impl<S> Flaky<S> {
    pub(crate) fn new(store: S) -> Self {
        Self {
            store,
            replacing: AtomicU32::new(0),
            away: AtomicBool::new(false),
        }
    }

    /// So many replacements fail from now on.
    pub(crate) fn fail_replacing(&self, times: u32) {
        self.replacing.store(times, Ordering::SeqCst);
    }

    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn away<T>(&self) -> Option<StoreFuture<T>> {
        let away = self.away.load(Ordering::SeqCst);
        away.then(|| StoreFuture::ready(Err(StoreError::new("away"))))
    }
}

macro_rules! flaky {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> StoreFuture<$answer> {
            self.away().unwrap_or_else(|| self.store.$name($($argument),*))
        })*
    };
}

impl<S: Store> Store for Flaky<S> {
    flaky! {
        fn insert(record: Record) -> ();
        fn find(key: Key) -> Option<Record>;
        fn touch(key: Key, seen_at: SystemTime, expires_at: SystemTime) -> bool;
        fn lease(key: Key, holder: u128, length: Duration) -> Lease;
        fn release(key: Key, holder: u128) -> ();
        fn list(user_id: &str, kind: Kind) -> Vec<Record>;
        fn end(what: End) -> u64;
        fn ended(within: Duration) -> Vec<Ended>;
        fn set_disabled(user_id: &str, disabled: bool) -> ();
        fn disabled() -> Vec<Arc<str>>;
        fn claim(what: Key, until: SystemTime) -> bool;
    }

    fn replace(&self, key: Key, version: u64, data: Bytes) -> StoreFuture<bool> {
        let one_less = |left: u32| left.checked_sub(1);
        let order = Ordering::SeqCst;
        if self.replacing.fetch_update(order, order, one_less).is_ok() {
            return StoreFuture::ready(Err(StoreError::new("away")));
        }
        self.away()
            .unwrap_or_else(|| self.store.replace(key, version, data))
    }
}
