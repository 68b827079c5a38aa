use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::{StreamExt, TryStreamExt, stream};
use thiserror::Error;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tower_quota::{
    Amounts, PostgresStore, QuotaStore, RedisReseeding, RedisStore, Renewing, StoreError, Subject,
    Ticket,
};
use tower_usage::sqlite::{LedgerError, Mark, SqliteLedger, Used};
use tracing::{info, warn};

use super::store::{CounterStore, Kept};
use crate::clock;
use crate::store::Store;

/// Sees to it that what the ledger says is among the counters: those in memory are filled at the start, those that are
/// shared are given what this gateway's ledger said when it joined them, and again when they are lost.
#[derive(Clone, Debug)]
pub struct Seeding(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    counters: CounterStore,
    quota: Renewing<CounterStore>,
    ledger: Arc<SqliteLedger>,
    store: Store,
    /// The name of this gateway's ledger.
    member: String,
    /// The epoch in which it was counted last, and all who were then.
    seen: Mutex<Option<(u32, Vec<String>)>>,
}

/// Why the counters do not say what the ledger says. It is tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SeedError {
    /// The counters cannot be asked.
    #[error("the quota store does not answer")]
    Counters(#[from] StoreError),
    /// The ledger cannot be read.
    #[error("the ledger cannot be read")]
    Ledger(#[from] LedgerError),
    /// The store cannot be asked.
    #[error("the store does not answer")]
    Store(#[from] crate::store::StoreError),
    /// There was not time enough, or others are waited for.
    #[error("it is not done yet")]
    Late,
    /// The gateway stops.
    #[error("the gateway stops")]
    Stopped,
}

/// The longest window reaches so far back.
const LONGEST_WINDOW: Duration = Duration::from_secs(32 * 86_400);

/// How often it is looked whether the counters still are those that were counted.
const LOOK: Duration = Duration::from_secs(1);

/// How often somebody who waits looks at the start.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// How many of a ledger's sums are on their way at the same time.
const AT_ONCE: usize = 16;

/// How often one of them is tried again.
const ATTEMPTS: usize = 5;

// === impl Seeding ===

impl Seeding {
    /// Of these counters by this ledger; `store` remembers who else counts.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub fn new(
        quota: Renewing<CounterStore>,
        ledger: Arc<SqliteLedger>,
        store: Store,
    ) -> Result<Self, SeedError> {
        let member = ledger.id()?.simple().to_string();
        Ok(Self(Arc::new(Inner {
            counters: CounterStore::clone(quota.get_ref()),
            quota,
            ledger,
            store,
            member,
            seen: Mutex::default(),
        })))
    }

    /// Counts what is not counted yet, in shared counters once however often it is tried. Answers who else has to, before
    /// anything is decided.
    async fn step(&self) -> Result<Vec<String>, SeedError> {
        match self.0.counters.kept() {
            Kept::Memory(memory) => {
                let (own, memory) = (self.clone(), Arc::clone(memory));
                let filled = tokio::task::spawn_blocking(move || {
                    let number = own.0.ledger.last_number()?;
                    let since = clock::now().checked_sub(LONGEST_WINDOW);
                    for used in own.0.ledger.used(since.unwrap_or(UNIX_EPOCH))? {
                        memory.add_used(&Subject::from(&used.user_id), used.at, amounts(&used));
                    }
                    own.0.counters.has_counted(number);
                    Ok(Vec::new())
                });
                filled.await.unwrap_or(Err(SeedError::Stopped))
            }
            Kept::Postgres(postgres) => {
                self.count_in_postgres(postgres).await?;
                Ok(Vec::new())
            }
            Kept::Redis(redis) => self.count_in_redis(redis).await,
        }
    }

    /// Waits until the counters decide, those that are shared not for ever: what is still to be done is left to
    /// [`follow`](Self::follow).
    ///
    /// # Errors
    ///
    /// [`SeedError`] of the last attempt.
    pub async fn start(&self, within: Duration) -> Result<(), SeedError> {
        let own = &self.0;
        if !own.counters.is_shared() {
            // A ledger is read once, however long that takes: read twice it would count twice.
            return self.step().await.map(drop);
        }
        let until = Instant::now() + within;
        // Whatever the counters are, should others ever be lost, or these be left for others: everybody waits for it.
        own.store
            .put_counting(std::slice::from_ref(&own.member))
            .await?;
        loop {
            let step = timeout_at(until, self.step()).await;
            match step {
                _ if own.counters.are_counted() => return Ok(()),
                Err(_) => return Err(SeedError::Late),
                Ok(Err(error)) if Instant::now() >= until => return Err(error),
                Ok(_) => sleep(FIRST_LOOK).await,
            }
        }
    }

    fn show(&self) {
        let ready = self.0.counters.is_ready();
        metrics::gauge!("gateway_quota_store_ready").set(f64::from(u8::from(ready)));
    }

    /// Looks again and again, until it is told to stop.
    pub async fn follow(self, stop: CancellationToken) {
        self.show();
        if !self.0.counters.is_shared() {
            return;
        }
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = Vec::new();
        let mut failed = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let awaited = tokio::select! {
                awaited = self.step() => awaited,
                () = stop.cancelled() => return,
            };
            self.show();
            match awaited {
                Ok(awaited) => {
                    if failed {
                        info!("the quota store answers again");
                    }
                    failed = false;
                    if awaited != said && !awaited.is_empty() {
                        warn!(
                            ledgers = ?awaited,
                            "the counters wait for other gateways to count what their ledgers say; start them, or forget \
                             them by DELETE /api/admin/counters/members/…"
                        );
                    }
                    said = awaited;
                }
                Err(error) => {
                    if !failed {
                        let error = &error as &(dyn std::error::Error + 'static);
                        warn!(error, "the quota store is not ready; it is tried again");
                    }
                    failed = true;
                }
            }
        }
    }

    /// Who counts together in shared counters, each with whether it has counted.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the counters cannot be asked.
    pub async fn members(&self) -> Result<Vec<(String, bool)>, StoreError> {
        let Kept::Redis(redis) = self.0.counters.kept() else {
            return Ok(Vec::new());
        };
        let members = redis.members().await?;
        let counted = |name: &str| members.has_counted(name) || members.waits(name);
        let names = members.names();
        Ok(names.map(|name| (name.to_owned(), counted(name))).collect())
    }

    /// Does not wait for a gateway any more whose ledger is gone.
    ///
    /// # Errors
    ///
    /// [`SeedError`].
    pub async fn forget(&self, member: &str) -> Result<(), SeedError> {
        self.0.store.forget_counting(member.to_owned()).await?;
        if let Kept::Redis(redis) = self.0.counters.kept() {
            redis.forget(member).await?;
        }
        Ok(())
    }

    /// A database keeps what it was told: it is told once.
    async fn count_in_postgres(&self, postgres: &PostgresStore) -> Result<(), SeedError> {
        let own = &self.0;
        let target = format!("quota postgres {:08x}", postgres.database());
        let whole = format!("{target} counted");
        if own.counters.are_counted() {
            // Whether it answers, for those who ask whether we are ready.
            let asked = postgres.terms(&Subject::new("")).await;
            return Ok(own.counters.told(asked).map(drop)?);
        }
        let mark = own.ledger.mark(&target).await?;
        if self.find_mark(whole.clone()).await?.is_some() {
            own.counters.has_counted(mark.number);
            return Ok(());
        }
        for (subject, terms) in own.store.all_terms().await? {
            // Those who have some already have later ones.
            postgres
                .set_terms(&Subject::from(subject), terms.at_version(0))
                .await?;
        }
        let tickets = self.tickets(&target, mark).await?;
        Work::CountInPostgres(postgres).with_all(tickets).await?;
        own.ledger.mark(&whole).await?;
        own.counters.has_counted(mark.number);
        info!("what the ledger says is among the counters in Postgres");
        Ok(())
    }

    async fn count_in_redis(&self, redis: &RedisStore) -> Result<Vec<String>, SeedError> {
        let own = &self.0;
        let members = own.counters.told(redis.members().await)?;
        let target = |epoch: u32| format!("quota redis {epoch:08x}");
        if let Some(epoch) = members.present_epoch()
            && members.has_counted(&own.member)
        {
            let names: Vec<_> = members.names().map(str::to_owned).collect();
            let seen = Some((epoch, names.clone()));
            if !own.counters.are_counted() || redis.lost() || *self.seen() != seen {
                let mark = own.ledger.mark(&target(epoch)).await?;
                own.store.put_counting(&names).await?;
                // What is settled from now on is of this epoch.
                own.counters.has_not_counted();
                if redis.go_by(&members, &own.member) {
                    own.counters.has_counted(mark.number);
                    *self.seen() = seen;
                }
            }
            return Ok(Vec::new());
        }
        own.counters.has_not_counted();
        if !members.waits(&own.member) {
            let known = own.store.counting().await?;
            let reseeding = redis.reseed(&own.member, &known).await?;
            let target = target(reseeding.epoch());
            let whole = format!("{target} counted");
            let mark = own.ledger.mark(&target).await?;
            // One that was forgotten by mistake has counted: what its tickets were is remembered for a day only.
            if self.find_mark(whole.clone()).await?.is_none() {
                for (subject, terms) in own.store.all_terms().await? {
                    let terms = terms.at_version(0);
                    reseeding.set_terms(&Subject::from(subject), terms).await?;
                }
                let tickets = self.tickets(&target, mark).await?;
                Work::CountInRedis(&reseeding).with_all(tickets).await?;
                // After the mark: what ends meanwhile is above it, and is settled under what is held here.
                Work::HoldInRedis(&reseeding)
                    .with_all(own.quota.held())
                    .await?;
                own.ledger.mark(&whole).await?;
                info!("what the ledger says is among the counters in Redis");
            }
            reseeding.finish().await?;
        }
        let members = redis.members().await?;
        Ok(members.awaited().map(str::to_owned).collect())
    }

    fn seen(&self) -> MutexGuard<'_, Option<(u32, Vec<String>)>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn find_mark(&self, name: String) -> Result<Option<Mark>, SeedError> {
        let ledger = Arc::clone(&self.0.ledger);
        let found = tokio::task::spawn_blocking(move || ledger.find_mark(&name));
        Ok(found.await.map_err(|_| SeedError::Stopped)??)
    }

    /// What the ledger said at the mark, each sum under a ticket that is the same whenever it is asked for, and of this
    /// target alone.
    async fn tickets(&self, target: &str, mark: Mark) -> Result<Vec<(Ticket, Amounts)>, SeedError> {
        let (own, target) = (self.clone(), target.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let used = own.0.ledger.used_until(&mark, LONGEST_WINDOW)?;
            let ticket = |used: Used| {
                let at = used.at.duration_since(UNIX_EPOCH).unwrap_or_default();
                let name = format!(
                    "{}\0{target}\0{}\0{}",
                    own.0.member,
                    used.user_id,
                    at.as_millis()
                );
                let hash = digest(&SHA256, name.as_bytes());
                let id = hash.as_ref().iter().take(16);
                let id = id.fold(0, |id, byte| id << 8 | u128::from(*byte));
                let ticket = Ticket::new(id, &used.user_id, used.at);
                (ticket, amounts(&used))
            };
            let mut tickets: Vec<_> = used.into_iter().map(ticket).collect();
            // In no order, so that those of one person do not wait for each other.
            tickets.sort_unstable_by_key(|(ticket, _)| ticket.id());
            Ok(tickets)
        });
        read.await.unwrap_or(Err(SeedError::Stopped))
    }
}

/// What is done with each of many.
#[derive(Clone, Copy)]
enum Work<'a> {
    CountInPostgres(&'a PostgresStore),
    CountInRedis(&'a RedisReseeding),
    HoldInRedis(&'a RedisReseeding),
}

// === impl Work ===

impl Work<'_> {
    /// Does it with all, some at the same time.
    async fn with_all(self, all: Vec<(Ticket, Amounts)>) -> Result<(), StoreError> {
        let all = stream::iter(all).map(Ok);
        let done =
            all.try_for_each_concurrent(AT_ONCE, |(ticket, amounts)| self.with(ticket, amounts));
        done.await
    }

    /// Does it with one, and again if that is not answered.
    async fn with(self, ticket: Ticket, amounts: Amounts) -> Result<(), StoreError> {
        let mut attempts = 0;
        loop {
            let done = match self {
                Self::CountInPostgres(postgres) => postgres.count(&ticket, amounts).await.map(drop),
                Self::CountInRedis(redis) => redis.count(&ticket, amounts).await.map(drop),
                Self::HoldInRedis(redis) => redis.hold(&ticket, amounts).await,
            };
            if done.is_ok() || attempts == ATTEMPTS {
                return done;
            }
            attempts += 1;
            sleep(FIRST_LOOK).await;
        }
    }
}

fn amounts(used: &Used) -> Amounts {
    let cost = u64::try_from(used.cost.as_nanos()).unwrap_or(0);
    Amounts::new()
        .tokens(used.tokens)
        .nano_usd(cost)
        .calls(used.calls)
}
