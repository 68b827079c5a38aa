use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
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
use tokio::time::timeout;

use super::{
    Kind, random,
    record::{Key, Record},
    store::{End, Ended, Store, StoreError, StoreFuture},
};

/// Sessions in Redis 6.2 or later, alone or a Cluster.
///
/// Each operation is one script on one key, by the server's clock, so that it is atomic and needs no
/// hash tags. Finding all records of a user or of an issuer's session goes through an index of their
/// keys: [`list`](Store::list) and [`end`](Store::end) of these take a round trip more for each record, and
/// an end that fails may have ended some; it can be repeated. Records and claims expire by themselves. An
/// operation takes two seconds at most; a connection that is lost is made anew. Cheap to clone; clones
/// share the connection.
///
/// | key | what |
/// | --- | --- |
/// | `sso:record:<key>` | hash: a record |
/// | `sso:user:<user>`, `sso:sid:<provider>:<sid>`, `sso:sub:<provider>:<subject>` | sorted set: keys of records by their time |
/// | `sso:ended` | sorted set: what has ended, by its time |
/// | `sso:disabled` | set: users |
/// | `sso:claim:<key>` | string |
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    client: Client,
    scripts: Scripts,
}

struct Scripts {
    insert: Script,
    find: Script,
    touch: Script,
    replace: Script,
    lease: Script,
    release: Script,
    remove: Script,
    index: Script,
    indexed: Script,
    forget: Script,
    tell: Script,
    told: Script,
    disable: Script,
    disabled: Script,
    claim: Script,
}

/// How long an operation may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long it is kept what was ended, in milliseconds.
const KEPT: &str = "3600000";

/// How long an index is kept after the last record that was added: longer than any record lives.
const INDEX_KEPT: &str = "34560000000";

const LISTED: usize = 1_000;

/// The members of a record, in the order in which scripts take and give them.
const FIELDS: &str =
    "'kind','user','provider','subject','sid','created','seen','expires','version','data'";

// === impl Scripts ===

impl Scripts {
    fn new() -> Self {
        let now =
            "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000);";
        Self {
            insert: Script::from_lua(format!(
                "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end;
                 local fields = {{{FIELDS}}};
                 for i, field in ipairs(fields) do redis.call('HSET', KEYS[1], field, ARGV[i]) end;
                 redis.call('PEXPIREAT', KEYS[1], ARGV[8]);
                 return 1"
            )),
            find: Script::from_lua(format!("return redis.call('HMGET', KEYS[1], {FIELDS})")),
            touch: Script::from_lua(
                "local is = redis.call('HMGET', KEYS[1], 'seen', 'expires');
                 if not is[1] then return 0 end;
                 if tonumber(ARGV[1]) > tonumber(is[1]) then redis.call('HSET', KEYS[1], 'seen', ARGV[1]) end;
                 if tonumber(ARGV[2]) > tonumber(is[2]) then
                     redis.call('HSET', KEYS[1], 'expires', ARGV[2]);
                     redis.call('PEXPIREAT', KEYS[1], ARGV[2])
                 end;
                 return 1",
            ),
            replace: Script::from_lua(
                "if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end;
                 redis.call('HSET', KEYS[1], 'version', ARGV[2], 'data', ARGV[3]);
                 redis.call('HDEL', KEYS[1], 'lease', 'until');
                 return 1",
            ),
            lease: Script::from_lua(format!(
                "{now} if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end;
                 local is = redis.call('HMGET', KEYS[1], 'lease', 'until');
                 if is[1] and is[1] ~= ARGV[1] and tonumber(is[2]) > now then return 0 end;
                 redis.call('HSET', KEYS[1], 'lease', ARGV[1], 'until', string.format('%.0f', now + ARGV[2]));
                 return 1"
            )),
            release: Script::from_lua(
                "if redis.call('HGET', KEYS[1], 'lease') == ARGV[1] then
                     redis.call('HDEL', KEYS[1], 'lease', 'until')
                 end;
                 return 1",
            ),
            // Only what is what it was listed as: pairs of member and value.
            remove: Script::from_lua(
                "for i = 1, #ARGV, 2 do
                     if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then return 0 end
                 end;
                 return redis.call('DEL', KEYS[1])",
            ),
            index: Script::from_lua(
                "redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2]);
                 return redis.call('PEXPIRE', KEYS[1], ARGV[3])",
            ),
            indexed: Script::from_lua("return redis.call('ZREVRANGE', KEYS[1], 0, -1)"),
            // One that was added just now may be of a record that is still to come.
            forget: Script::from_lua(format!(
                "{now} local at = redis.call('ZSCORE', KEYS[1], ARGV[1]);
                 if at and now - at > 60000 then return redis.call('ZREM', KEYS[1], ARGV[1]) end;
                 return 0"
            )),
            tell: Script::from_lua(format!(
                "{now} redis.call('ZADD', KEYS[1], now, ARGV[1]);
                 redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2]);
                 return 1"
            )),
            told: Script::from_lua(format!(
                "{now} return redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[1], '+inf')"
            )),
            disable: Script::from_lua("return redis.call(ARGV[1], KEYS[1], ARGV[2])"),
            disabled: Script::from_lua("return redis.call('SMEMBERS', KEYS[1])"),
            claim: Script::from_lua(
                "if redis.call('SET', KEYS[1], '1', 'NX', 'PXAT', ARGV[1]) then return 1 end; return 0",
            ),
        }
    }
}

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
        StoreFuture::boxed(work(Arc::clone(&self.0)))
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
            let created = millis(record.created_at);
            // Before the record: one that no index names could not be ended with the others.
            for index in indexes_of(&record) {
                let key = record.key.to_string();
                let args = [text(&created), text(&key), text(INDEX_KEPT)];
                inner.ask::<i64>(&inner.scripts.index, index, args).await?;
            }
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
                text(&created),
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

    fn lease(&self, key: Key, holder: u128, length: Duration) -> StoreFuture<bool> {
        self.run(move |inner| async move {
            let args = [
                text(&holder.to_string()),
                text(&length.as_millis().to_string()),
            ];
            inner.ask(&inner.scripts.lease, name(key), args).await
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
            let keys: Vec<String> = inner.ask(&inner.scripts.indexed, index.clone(), []).await?;
            let mut found = Vec::new();
            for key in keys.iter().filter_map(|key| Key::parse(key)) {
                match inner.find(key).await? {
                    Some(record) if record.kind == kind => found.push(record),
                    Some(_) => {}
                    None => {
                        let args = [text(&key.to_string())];
                        inner
                            .ask::<i64>(&inner.scripts.forget, index.clone(), args)
                            .await?;
                    }
                }
                if found.len() >= LISTED {
                    break;
                }
            }
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
            let args = [text(&millis(until))];
            let key = format!("sso:claim:{what}");
            inner.ask(&inner.scripts.claim, key, args).await
        })
    }
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
        let asked = script.evalsha_with_reload(&self.client, key, args);
        match timeout(TIMEOUT, asked).await {
            Ok(answer) => answer.map_err(StoreError::new),
            Err(elapsed) => Err(StoreError::new(elapsed)),
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
                let removed: i64 = self.ask(&self.scripts.remove, name(*key), []).await?;
                return Ok(u64::try_from(removed).unwrap_or_default());
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
        let keys: Vec<String> = self.ask(&self.scripts.indexed, index, []).await?;
        let mut removed = 0;
        for key in keys.iter().filter_map(|key| Key::parse(key)) {
            let args = conditions
                .iter()
                .flat_map(|(field, value)| [text(field), text(value)]);
            removed += self
                .ask::<i64>(&self.scripts.remove, name(key), args)
                .await?;
        }
        Ok(u64::try_from(removed).unwrap_or_default())
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

const ENDED: &str = "sso:ended";

const DISABLED: &str = "sso:disabled";

fn read_ended(text: &str) -> Option<Ended> {
    let mut parts = text.splitn(4, ' ');
    let id = parts.next()?.parse().ok()?;
    let kind = parts.next()?;
    let length: usize = parts.next()?.parse().ok()?;
    let (a, b) = parts.next()?.split_at_checked(length)?;
    let what = End::from_parts(kind, a.into(), b.into())?;
    Some(Ended { id, what })
}

fn read_record(key: Key, fields: Vec<Option<Bytes>>) -> Option<Record> {
    let mut fields = fields.into_iter();
    let mut data = None;
    let mut next = || fields.next().flatten();
    let mut texts = Vec::with_capacity(9);
    for _ in 0..9 {
        texts.push(String::from_utf8(next()?.to_vec()).ok()?);
    }
    data.replace(next()?);
    let [
        kind,
        user_id,
        provider,
        subject,
        session_id,
        created,
        seen,
        expires,
        version,
    ]: [String; 9] = texts.try_into().ok()?;
    Some(Record {
        key,
        kind: match &*kind {
            "session" => Kind::Session,
            "access_token" => Kind::AccessToken,
            _ => return None,
        },
        user_id: user_id.into(),
        provider: provider.into(),
        subject: subject.into(),
        session_id: session_id.strip_prefix('=').map(Arc::from),
        created_at: time(&created)?,
        seen_at: time(&seen)?,
        expires_at: time(&expires)?,
        version: version.parse().ok()?,
        data: data?,
    })
}

fn indexes_of(record: &Record) -> impl Iterator<Item = String> {
    let session_id = record.session_id.as_ref();
    [
        Some(user_index(&record.user_id)),
        Some(subject_index(&record.provider, &record.subject)),
        session_id.map(|session_id| sid_index(&record.provider, session_id)),
    ]
    .into_iter()
    .flatten()
}

fn name(key: Key) -> String {
    format!("sso:record:{key}")
}

fn user_index(user_id: &str) -> String {
    format!("sso:user:{user_id}")
}

fn sid_index(provider: &str, session_id: &str) -> String {
    format!("sso:sid:{}:{provider}:{session_id}", provider.len())
}

fn subject_index(provider: &str, subject: &str) -> String {
    format!("sso:sub:{}:{provider}:{subject}", provider.len())
}

const fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Session => "session",
        Kind::AccessToken => "access_token",
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn millis(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    // What scripts compute with is exact up to 2^53.
    since.as_millis().min(1 << 52).to_string()
}

fn time(millis: &str) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis.parse().ok()?))
}
