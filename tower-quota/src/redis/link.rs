use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use fred::{
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::{ClientLike as _, EventInterface as _},
    types::{
        Builder, ClusterHash, ConnectHandle, CustomCommand,
        config::{Config, Options, ReconnectPolicy},
        scripts::Script,
    },
    util::redis_keyslot,
};
use tokio::{
    runtime::Handle,
    sync::broadcast::error::RecvError,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::answer::Answer;
use crate::{StoreError, unix_ms::UnixMs};

/// The connection, and what time it is at its other end.
pub(super) struct Link {
    client: Client,
    guardian: JoinHandle<()>,
    clock: ServerClock,
}

struct ServerClock {
    zero: Instant,
    /// The server's time at `zero`, in milliseconds, by its latest answer.
    offset: AtomicI64,
    /// Since when it has not answered, in milliseconds since `zero`; zero if it has.
    silent_since: AtomicU64,
    /// When it was last taken for dead.
    given_up: AtomicU64,
}

/// How long the first connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a later one may take, and each step of it.
const RECONNECT: Duration = Duration::from_secs(2);

/// A server that has answered nothing for so many milliseconds has perhaps left without a word: another connection is
/// tried, and then no other one for as long.
const SILENCE_MS: u64 = 2_000;

// === impl Link ===

impl Link {
    pub(super) async fn connect(url: &str) -> Result<Self, StoreError> {
        // The URL may hold a password, so what is wrong with it is not said in its own words.
        let config =
            Config::from_url(url).map_err(|_| StoreError::new("the URL is not Redis's"))?;
        let mut policy = ReconnectPolicy::new_exponential(0, 50, 2_000, 2);
        // So that not all that lost it come back at once.
        policy.set_jitter(200);
        let client = Builder::from_config(config)
            .with_performance_config(|config| config.default_command_timeout = RECONNECT)
            .with_connection_config(|config| {
                config.connection_timeout = RECONNECT;
                config.internal_command_timeout = RECONNECT;
            })
            .set_policy(policy)
            .build()
            .map_err(StoreError::new)?;
        let connection = match timeout(CONNECT, client.init()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(StoreError::new(error)),
            Err(elapsed) => {
                let _ = client.quit().await;
                return Err(StoreError::new(elapsed));
            }
        };
        Ok(Self {
            guardian: tokio::spawn(guard(client.clone(), connection)),
            client,
            clock: ServerClock::new(),
        })
    }

    pub(super) fn is_clustered(&self) -> bool {
        self.client.is_clustered()
    }

    /// What time it is at the server, about: earlier rather than later.
    pub(super) fn server_now(&self) -> UnixMs {
        self.clock.now()
    }

    /// Has the server decide, in one round trip unless it does not know the script any more. Nothing waits in a queue
    /// while there is no connection, and nothing is done twice.
    ///
    /// # Errors
    ///
    /// If there is no answer until then.
    pub(super) async fn ask(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<String>,
        until: Instant,
    ) -> Result<Answer, StoreError> {
        let first = self
            .run("EVALSHA", script.sha1(), &keys, &args, until)
            .await;
        let answer = match (first, script.lua()) {
            (Err(error), Some(lua)) if error.details().starts_with("NOSCRIPT") => {
                self.run("EVAL", lua, &keys, &args, until).await
            }
            (first, _) => first,
        };
        let answer = answer.map_err(|error| {
            let gone = match error.kind() {
                ErrorKind::Timeout => self.clock.is_silent(),
                // It has become a replica: the name may stand for another server by now.
                // Redis 6 says so within another sentence.
                _ => error.details().contains("READONLY"),
            };
            if gone && self.clock.may_give_up() {
                let client = self.client.clone();
                tokio::spawn(async move { client.force_reconnection().await });
            }
            StoreError::new(error)
        })?;
        let answer = Answer::new(answer)?;
        self.clock.learn(answer.now);
        Ok(answer)
    }

    async fn run(
        &self,
        command: &'static str,
        script: &str,
        keys: &[String],
        args: &[String],
        until: Instant,
    ) -> Result<Vec<String>, Error> {
        // The client's own commands for scripts ignore these options.
        let options = Options {
            // In a Cluster the first answer may be where else to ask.
            max_attempts: (!self.is_clustered()).then_some(1),
            timeout: Some(
                until
                    .saturating_duration_since(Instant::now())
                    // Zero would mean without end.
                    .max(Duration::from_millis(1)),
            ),
            fail_fast: true,
            ..Options::default()
        };
        let slot = keys.first().map(|key| redis_keyslot(key.as_bytes()));
        let slot = slot.map_or(ClusterHash::Random, ClusterHash::Custom);
        let command = CustomCommand::new_static(command, slot, false);
        let count = keys.len().to_string();
        let words = [script, &*count].into_iter().map(str::to_owned);
        let words = words.chain(keys.iter().chain(args).cloned());
        let client = self.client.with_options(&options);
        client.custom(command, words.collect()).await
    }

    /// Calls `work` whenever a connection is lost, and whenever there is another one, until the task is ended.
    pub(super) fn when_disconnected(&self, work: impl Fn() + Send + 'static) -> JoinHandle<()> {
        let (mut lost, mut connected) = (self.client.error_rx(), self.client.reconnect_rx());
        tokio::spawn(async move {
            loop {
                // Of many at once some may be missed, not all.
                let closed = tokio::select! {
                    lost = lost.recv() => matches!(lost, Err(RecvError::Closed)),
                    connected = connected.recv() => matches!(connected, Err(RecvError::Closed)),
                };
                if closed {
                    return;
                }
                work();
            }
        })
    }

    /// What the server does with keys when its memory is full, if it says so.
    pub(super) async fn eviction_policy(&self) -> Option<String> {
        let config = CustomCommand::new_static("CONFIG", ClusterHash::Random, false);
        let args = vec!["GET", "maxmemory-policy"];
        let answer: Result<Vec<String>, Error> = self.client.custom(config, args).await;
        answer.ok()?.into_iter().nth(1)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.guardian.abort();
        let client = self.client.clone();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { client.quit().await });
        }
    }
}

/// Connects anew if the client has come to its end, which it does where it takes an error for final.
async fn guard(client: Client, mut connection: ConnectHandle) {
    loop {
        let _ = connection.await;
        sleep(RECONNECT).await;
        connection = client.connect();
    }
}

// === impl ServerClock ===

impl ServerClock {
    fn new() -> Self {
        Self {
            zero: Instant::now(),
            offset: AtomicI64::new(0),
            silent_since: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> UnixMs {
        let elapsed = i64::try_from(self.elapsed()).unwrap_or(i64::MAX);
        UnixMs::saturating(self.offset.load(Ordering::Relaxed).saturating_add(elapsed))
    }

    /// That was the time there before the answer travelled.
    fn learn(&self, now: UnixMs) {
        let elapsed = self.elapsed();
        self.silent_since.store(0, Ordering::Relaxed);
        // A moment of zero is none: some answers have no time.
        if now.get() > 0 {
            let now = i64::try_from(now.get()).unwrap_or(i64::MAX);
            let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
            let offset = now.saturating_sub(elapsed);
            self.offset.store(offset, Ordering::Relaxed);
        }
    }

    /// One more has not been answered: whether it has been so for long.
    fn is_silent(&self) -> bool {
        let now = self.elapsed().max(1);
        let first =
            self.silent_since
                .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        first.is_err_and(|since| now.saturating_sub(since) >= SILENCE_MS)
    }

    /// Whether it is time to try another connection; once for all who ask at the same time.
    fn may_give_up(&self) -> bool {
        let now = self.elapsed();
        let given_up = self.given_up.load(Ordering::Relaxed);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        now.saturating_sub(given_up) >= SILENCE_MS
            && self
                .given_up
                .compare_exchange(given_up, now, set, read)
                .is_ok()
    }
}
