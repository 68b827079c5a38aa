mod names;
mod scripts;

use std::{
    cmp::Reverse,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use fred::{
    clients::Client,
    interfaces::ClientLike as _,
    types::{
        Builder, FromValue,
        config::{Config, ReconnectPolicy},
        scripts::Script,
    },
};
use futures_util::{
    StreamExt as _, TryFutureExt as _, TryStreamExt as _, future::try_join_all, stream,
};
use tokio::time::timeout;

use self::{
    names::{
        Entry, indexes, indexes_of, millis, name, name_of, read_ended, read_record, sid_index,
        subject_index, text, time, user_index,
    },
    scripts::Scripts,
};
use super::{
    Kind, random,
    record::{Key, Record},
    store::{End, Ended, Lease, Store, StoreError, StoreFuture},
};
use crate::jwt::{Clock as _, SystemClock};

/// Sessions in Redis 6.2 or later, alone or a Cluster.
///
/// Each step is one script on one key, by the server's clock, so that it is atomic and needs no
/// hash tags. Finding all records of a user or of an issuer's session goes through an index of their
/// keys: [`list`](Store::list) and [`end`](Store::end) of these ask for each record, 64 at a time, and
/// an end that fails may have ended some; it can be repeated. Everything expires by itself: an index with the
/// last of its records. An operation takes two seconds at most; a connection that is lost is made anew. Cheap to
/// clone; clones share the connection.
///
/// | key | what |
/// | --- | --- |
/// | `sso:record:<key>` | hash: a record |
/// | `sso:user:<user>`, `sso:sid:<provider>:<sid>`, `sso:sub:<provider>:<subject>` | sorted set: keys of records, each with when it was made, by their end |
/// | `sso:ended` | sorted set: what has ended, by its time |
/// | `sso:disabled` | set: users |
/// | `sso:claim:<key>` | string |
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    client: Client,
    scripts: Scripts,
}

/// How long an operation may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long it is kept what was ended, in milliseconds.
const KEPT: &str = "3600000";

/// How many records are asked for at once.
const AT_ONCE: usize = 64;

/// How long it may take from the entry in an index to its record.
const UNDER_WAY: Duration = Duration::from_secs(60);

/// Most records that are listed.
const LISTED: usize = 1_000;

// === impl RedisStore ===

impl RedisStore {
    /// Connects to the server that the URL names: `redis://` or `rediss://` for TLS, with user and
    /// password or without, `redis-cluster://` or `rediss-cluster://` for a Cluster.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the URL is none, or the server does not answer within five seconds.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        // The URL may hold a password, so what is wrong with it is not said in its own words.
        let config =
            Config::from_url(url).map_err(|_| StoreError::new("the URL is not Redis's"))?;
        let client = Builder::from_config(config)
            .with_performance_config(|config| config.default_command_timeout = TIMEOUT)
            .with_connection_config(|config| config.connection_timeout = TIMEOUT)
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 2_000, 2))
            .build()
            .map_err(StoreError::new)?;
        match timeout(CONNECT, client.init()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(StoreError::new(error)),
            Err(elapsed) => return Err(StoreError::new(elapsed)),
        }
        let scripts = Scripts::new();
        Ok(Self(Arc::new(Inner { client, scripts })))
    }

    fn run<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> StoreFuture<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let work = work(Arc::clone(&self.0));
        StoreFuture::boxed(async move {
            match timeout(TIMEOUT, work).await {
                Ok(done) => done,
                Err(elapsed) => Err(StoreError::new(elapsed)),
            }
        })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

impl Store for RedisStore {
    fn insert(&self, record: Record) -> StoreFuture<()> {
        self.run(|inner| async move {
            // Before the record: one that no index names could not be ended with the others.
            inner.index(&record, record.expires_at).await?;
            let args = [
                text(name_of(record.kind)),
                text(&record.user_id),
                text(&record.provider),
                text(&record.subject),
                text(
                    &record
                        .session_id
                        .as_ref()
                        .map_or_else(|| "-".to_owned(), |id| format!("={id}")),
                ),
                text(&millis(record.created_at)),
                text(&millis(record.seen_at)),
                text(&millis(record.expires_at)),
                text(&record.version.to_string()),
                record.data,
            ];
            let inserted: i64 = inner
                .ask(&inner.scripts.insert, name(record.key), args)
                .await?;
            match inserted {
                1 => Ok(()),
                _ => Err(StoreError::new("the key is taken")),
            }
        })
    }

    fn find(&self, key: Key) -> StoreFuture<Option<Record>> {
        self.run(move |inner| async move { inner.find(key).await })
    }

    fn touch(&self, key: Key, seen_at: SystemTime, expires_at: SystemTime) -> StoreFuture<bool> {
        self.run(move |inner| async move {
            let Some(record) = inner.find(key).await? else {
                return Ok(false);
            };
            if expires_at > record.expires_at {
                inner.index(&record, expires_at).await?;
            }
            let args = [text(&millis(seen_at)), text(&millis(expires_at))];
            inner.ask(&inner.scripts.touch, name(key), args).await
        })
    }

    fn replace(&self, key: Key, version: u64, data: Bytes) -> StoreFuture<bool> {
        self.run(move |inner| async move {
            let next = version.wrapping_add(1).to_string();
            let args = [text(&version.to_string()), text(&next), data];
            inner.ask(&inner.scripts.replace, name(key), args).await
        })
    }

    fn lease(&self, key: Key, holder: u128, length: Duration) -> StoreFuture<Lease> {
        self.run(move |inner| async move {
            let args = [
                text(&holder.to_string()),
                text(&length.as_millis().to_string()),
            ];
            let lease: i64 = inner.ask(&inner.scripts.lease, name(key), args).await?;
            Ok(match lease {
                0 => Lease::Refused,
                1 => Lease::Granted,
                _ => Lease::TakenOver,
            })
        })
    }

    fn release(&self, key: Key, holder: u128) -> StoreFuture<()> {
        self.run(move |inner| async move {
            let args = [text(&holder.to_string())];
            inner
                .ask::<i64>(&inner.scripts.release, name(key), args)
                .await
                .map(drop)
        })
    }

    fn list(&self, user_id: &str, kind: Kind) -> StoreFuture<Vec<Record>> {
        let index = user_index(user_id);
        self.run(move |inner| async move {
            let entries = inner.indexed(&index).await?;
            let asked = entries.into_iter().map(|entry| {
                let found = inner.find(entry.key);
                found.map_ok(move |found| found.ok_or(entry))
            });
            let asked = stream::iter(asked);
            let asked: Vec<_> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
            let mut found = Vec::new();
            let mut gone = Vec::new();
            for record in asked {
                match record {
                    Ok(record) if record.kind == kind => found.push(record),
                    Ok(_) => {}
                    Err(entry) => gone.push(entry),
                }
            }
            inner.forget(&index, gone.into_iter()).await;
            found.sort_by_key(|record| Reverse((record.created_at, record.key)));
            found.truncate(LISTED);
            Ok(found)
        })
    }

    fn end(&self, what: End) -> StoreFuture<u64> {
        self.run(|inner| async move {
            let ended = inner.remove(&what).await?;
            inner.tell(&what).await?;
            Ok(ended)
        })
    }

    fn ended(&self, within: Duration) -> StoreFuture<Vec<Ended>> {
        self.run(move |inner| async move {
            let within = within.as_millis().min(1 << 50).to_string();
            let told: Vec<String> = inner
                .ask(&inner.scripts.told, ENDED.to_owned(), [text(&within)])
                .await?;
            Ok(told.iter().filter_map(|text| read_ended(text)).collect())
        })
    }

    fn set_disabled(&self, user_id: &str, disabled: bool) -> StoreFuture<()> {
        let user_id: Arc<str> = user_id.into();
        self.run(move |inner| async move {
            let command = if disabled { "SADD" } else { "SREM" };
            let args = [text(command), text(&user_id)];
            inner
                .ask::<i64>(&inner.scripts.disable, DISABLED.to_owned(), args)
                .await?;
            let what = match disabled {
                true => End::Disabled(user_id),
                false => End::Enabled(user_id),
            };
            // Before, in case that the rest fails, and after, for who has looked in between.
            inner.tell(&what).await?;
            inner.remove(&what).await?;
            inner.tell(&what).await
        })
    }

    fn disabled(&self) -> StoreFuture<Vec<Arc<str>>> {
        self.run(|inner| async move {
            let users: Vec<String> = inner
                .ask(&inner.scripts.disabled, DISABLED.to_owned(), [])
                .await?;
            Ok(users.into_iter().map(Arc::from).collect())
        })
    }

    fn claim(&self, what: Key, until: SystemTime) -> StoreFuture<bool> {
        self.run(move |inner| async move {
            let own = u128::from_be_bytes(random()?).to_string();
            let args = [text(&millis(until)), text(&own)];
            let key = format!("sso:claim:{what}");
            inner.ask(&inner.scripts.claim, key, args).await
        })
    }
}

const ENDED: &str = "sso:ended";

const DISABLED: &str = "sso:disabled";

/// Whether a record was removed.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Removed {
    Yes,
    /// It is something else.
    No,
    /// There is none.
    Gone,
}

// === impl Inner ===

impl Inner {
    async fn ask<T: FromValue>(
        &self,
        script: &Script,
        key: String,
        args: impl IntoIterator<Item = Bytes>,
    ) -> Result<T, StoreError> {
        let args: Vec<Bytes> = args.into_iter().collect();
        let answer = script.evalsha_with_reload(&self.client, key, args).await;
        answer.map_err(StoreError::new)
    }

    /// Has a record found by whom it is of until then.
    async fn index(&self, record: &Record, until: SystemTime) -> Result<(), StoreError> {
        let entry = Entry::of(record).to_string();
        let args = [text(&millis(until)), text(&entry)];
        let indexed = indexes_of(record)
            .map(|index| self.ask::<i64>(&self.scripts.index, index, args.clone()));
        try_join_all(indexed).await.map(drop)
    }

    async fn indexed(&self, index: &str) -> Result<Vec<Entry>, StoreError> {
        let entries: Vec<String> = self
            .ask(&self.scripts.indexed, index.to_owned(), [])
            .await?;
        let entries = entries.iter().filter_map(|entry| Entry::parse(entry));
        Ok(entries.collect())
    }

    /// Takes entries without a record away; those of just now may be of records that are still to come. What
    /// stays expires.
    async fn forget(&self, index: &str, gone: impl Iterator<Item = Entry>) {
        let now = SystemClock.now();
        let is_old = |entry: &Entry| {
            now.duration_since(entry.created_at)
                .is_ok_and(|age| age > UNDER_WAY)
        };
        let old = gone.filter(is_old);
        let args: Vec<Bytes> = old.map(|entry| text(&entry.to_string())).collect();
        if !args.is_empty() {
            let forgotten = self.ask::<i64>(&self.scripts.forget, index.to_owned(), args);
            let _ = forgotten.await;
        }
    }

    async fn find(&self, key: Key) -> Result<Option<Record>, StoreError> {
        let fields: Vec<Option<Bytes>> = self.ask(&self.scripts.find, name(key), []).await?;
        if fields.first().is_none_or(Option::is_none) {
            return Ok(None);
        }
        read_record(key, fields)
            .map(Some)
            .ok_or_else(|| StoreError::new("a record cannot be read"))
    }

    async fn remove(&self, what: &End) -> Result<u64, StoreError> {
        let session = name_of(Kind::Session).to_owned();
        let (index, conditions) = match what {
            End::Key(key) => {
                let removed = self.remove_one(*key, &[]).await?;
                return Ok(u64::from(removed == Removed::Yes));
            }
            End::Enabled(_) => return Ok(0),
            End::User(user_id) | End::Disabled(user_id) => {
                (user_index(user_id), vec![("user", user_id.to_string())])
            }
            End::IssuerSession {
                provider,
                session_id,
            } => (
                sid_index(provider, session_id),
                vec![
                    ("provider", provider.to_string()),
                    ("sid", format!("={session_id}")),
                    ("kind", session),
                ],
            ),
            End::Subject { provider, subject } => (
                subject_index(provider, subject),
                vec![
                    ("provider", provider.to_string()),
                    ("subject", subject.to_string()),
                    ("kind", session),
                ],
            ),
        };
        let entries = self.indexed(&index).await?;
        let asked = entries.into_iter().map(|entry| {
            let removed = self.remove_one(entry.key, &conditions);
            removed.map_ok(move |removed| (removed, entry))
        });
        let asked = stream::iter(asked);
        let asked: Vec<_> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
        let gone = asked
            .iter()
            .filter(|(removed, _)| *removed == Removed::Gone);
        self.forget(&index, gone.map(|(_, entry)| *entry)).await;
        let removed = asked.iter().filter(|(removed, _)| *removed == Removed::Yes);
        Ok(u64::try_from(removed.count()).unwrap_or(u64::MAX))
    }

    /// Removes a record if these members have these values, and what finds it.
    async fn remove_one(
        &self,
        key: Key,
        conditions: &[(&str, String)],
    ) -> Result<Removed, StoreError> {
        let args = conditions
            .iter()
            .flat_map(|(field, value)| [text(field), text(value)]);
        let removed: Vec<String> = self.ask(&self.scripts.remove, name(key), args).await?;
        let [_, user_id, provider, subject, session_id, created] = &*removed else {
            return Ok(match removed.first().map(|said| &**said) {
                Some("gone") => Removed::Gone,
                _ => Removed::No,
            });
        };
        if let Some(created_at) = time(created) {
            let entry = text(&Entry { key, created_at }.to_string());
            let session_id = session_id.strip_prefix('=');
            let forgotten = indexes(user_id, provider, subject, session_id)
                .map(|index| self.ask::<i64>(&self.scripts.forget, index, [entry.clone()]));
            // What stays expires.
            let _ = try_join_all(forgotten).await;
        }
        Ok(Removed::Yes)
    }

    async fn tell(&self, what: &End) -> Result<(), StoreError> {
        let id = u64::from_be_bytes(random()?);
        let (kind, a, b) = what.to_parts();
        // Lengths in front, so that names may hold anything.
        let member = format!("{id} {kind} {} {a}{b}", a.len());
        let args = [text(&member), text(KEPT)];
        self.ask::<i64>(&self.scripts.tell, ENDED.to_owned(), args)
            .await
            .map(drop)
    }
}
