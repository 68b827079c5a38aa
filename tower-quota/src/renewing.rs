use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    Amounts, Charge, Granted, QuotaStore, Released, Renewed, ReserveError, Settled, Standing,
    StoreError, StoreFuture, Subject, Terms, Ticket,
};

/// A [`QuotaStore`] whose reservations do not end while this process works on them: it renews their leases from time to
/// time, until they are settled, released or abandoned.
///
/// So the lease of the store inside may be short: what a process held that died is free again soon, and work that
/// takes long is not taken for dead. Cheap to clone; renewing stops when the last clone is dropped.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use std::{sync::Arc, time::Duration};
/// use tower_quota::{Limits, MemoryStore, Renewing};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let store = MemoryStore::new(Limits::default()).lease(Duration::from_secs(60));
/// let store = Renewing::start(Arc::new(store), Duration::from_secs(20));
/// # let _ = store;
/// # }
/// # main();
/// # }
/// ```
pub struct Renewing<S: ?Sized>(Arc<Inner<S>>);

struct Inner<S: ?Sized> {
    live: Arc<Live>,
    task: JoinHandle<()>,
    store: Arc<S>,
}

/// What is held now, and since when; by the reservation's id.
#[derive(Default)]
struct Live(Mutex<HashMap<u128, Held>>);

struct Held {
    since: Instant,
    ticket: Ticket,
    amounts: Amounts,
}

/// How many are renewed at the same time, so that many are renewed in time and others get their turn.
const AT_ONCE: usize = 32;

// === impl Renewing ===

impl<S: QuotaStore + ?Sized> Renewing<S> {
    /// Renews what `store` reserves after each `every`, on the current Tokio runtime. A third of the store's lease
    /// leaves room for a renewal that fails.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime, or if `every` is zero.
    #[must_use]
    pub fn start(store: Arc<S>, every: Duration) -> Self {
        let live = Arc::new(Live::default());
        let task = tokio::spawn(renew(Arc::clone(&store), Arc::clone(&live), every));
        Self(Arc::new(Inner { live, task, store }))
    }

    /// The store inside.
    #[must_use]
    pub fn get_ref(&self) -> &Arc<S> {
        &self.0.store
    }

    /// What this process has reserved, and neither settled nor given back: for counters that have lost it.
    #[must_use]
    pub fn held(&self) -> Vec<(Ticket, Amounts)> {
        let live = self.0.live.lock();
        let held = live
            .values()
            .map(|held| (held.ticket.clone(), held.amounts));
        held.collect()
    }
}

async fn renew<S: QuotaStore + ?Sized>(store: Arc<S>, live: Arc<Live>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut renewals = JoinSet::new();
        for ticket in live.older_than(every / 2) {
            if renewals.len() >= AT_ONCE {
                renewals.join_next().await;
            }
            let (renewed, live) = (store.renew(&ticket), Arc::clone(&live));
            renewals.spawn(async move {
                // Held no longer: nobody can renew it any more. A store that does not answer is asked the next time.
                if let Ok(Renewed::NotHeld) = renewed.await {
                    live.remove(&ticket);
                }
            });
        }
        while renewals.join_next().await.is_some() {}
    }
}

impl<S: QuotaStore + ?Sized> QuotaStore for Renewing<S> {
    fn reserve(&self, charge: &Charge) -> StoreFuture<Result<Granted, ReserveError>> {
        let keep = |live: &Live, answer: &Result<Granted, ReserveError>| {
            if let Ok(granted) = answer {
                live.insert(granted);
            }
        };
        match self.0.store.reserve(charge).try_ready() {
            Ok(answer) => {
                keep(&self.0.live, &answer);
                StoreFuture::ready(answer)
            }
            Err(waiting) => {
                let live = Arc::clone(&self.0.live);
                StoreFuture::boxed(async move {
                    let answer = waiting.await;
                    keep(&live, &answer);
                    answer
                })
            }
        }
    }

    fn settle(&self, ticket: &Ticket, used: Amounts) -> StoreFuture<Result<Settled, StoreError>> {
        match self.0.store.settle(ticket, used).try_ready() {
            Ok(answer) => {
                if answer.is_ok() {
                    self.0.live.remove(ticket);
                }
                StoreFuture::ready(answer)
            }
            Err(waiting) => {
                // Until it is settled it is held.
                let (live, ticket) = (Arc::clone(&self.0.live), ticket.clone());
                StoreFuture::boxed(async move {
                    let answer = waiting.await;
                    if answer.is_ok() {
                        live.remove(&ticket);
                    }
                    answer
                })
            }
        }
    }

    fn release(&self, ticket: &Ticket) -> StoreFuture<Result<Released, StoreError>> {
        self.0.live.remove(ticket);
        self.0.store.release(ticket)
    }

    fn abandon(&self, ticket: &Ticket) {
        self.0.live.remove(ticket);
        self.0.store.abandon(ticket);
    }

    fn renew(&self, ticket: &Ticket) -> StoreFuture<Result<Renewed, StoreError>> {
        self.0.store.renew(ticket)
    }

    fn standings(&self, subject: &Subject) -> StoreFuture<Result<Vec<Standing>, StoreError>> {
        self.0.store.standings(subject)
    }

    fn terms(&self, subject: &Subject) -> StoreFuture<Result<Terms, StoreError>> {
        self.0.store.terms(subject)
    }

    fn set_terms(&self, subject: &Subject, terms: Terms) -> StoreFuture<Result<bool, StoreError>> {
        self.0.store.set_terms(subject, terms)
    }
}

impl<S: ?Sized> Clone for Renewing<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: ?Sized> fmt::Debug for Renewing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing")
            .field("live", &self.0.live.lock().len())
            .finish_non_exhaustive()
    }
}

impl<S: ?Sized> Drop for Inner<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Live ===

impl Live {
    fn insert(&self, granted: &Granted) {
        let held = Held {
            since: Instant::now(),
            ticket: granted.ticket().clone(),
            amounts: granted.held(),
        };
        self.lock().insert(granted.ticket().id(), held);
    }

    fn remove(&self, ticket: &Ticket) {
        self.lock().remove(&ticket.id());
    }

    /// Most work is over sooner and needs no renewal.
    fn older_than(&self, age: Duration) -> Vec<Ticket> {
        let now = Instant::now();
        let live = self.lock();
        let old = live
            .values()
            .filter(|held| now.duration_since(held.since) >= age);
        old.map(|held| held.ticket.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u128, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[cfg(feature = "memory")]
mod tests {
    use super::*;
    use crate::{Dimension, Limit, Limits, MemoryStore, Window};

    const LEASE: Duration = Duration::from_secs(60);

    fn store() -> Renewing<MemoryStore> {
        let plan = Limits::new([Limit::at_most(Dimension::Calls, Window::Day, 1)]).unwrap();
        let begun = Instant::now();
        let epoch = std::time::UNIX_EPOCH;
        // Tokio's paused clock is the store's.
        let clock = move || epoch + begun.elapsed();
        let store = MemoryStore::new(plan).lease(LEASE).clock(Arc::new(clock));
        Renewing::start(Arc::new(store), LEASE / 3)
    }

    fn call() -> Charge {
        Charge::new("alice").exactly(Dimension::Calls, 1)
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_long_keeps_what_it_holds_until_it_is_over() {
        let store = store();
        let ticket = store.reserve(&call()).await.unwrap().into_ticket();
        tokio::time::sleep(10 * LEASE).await;
        assert!(store.reserve(&call()).await.is_err());
        let used = Amounts::new().calls(1);
        let settled = store.settle(&ticket, used).await.unwrap();
        let overshoot = Amounts::new();
        assert_eq!(settled, Settled::Applied { overshoot });
        assert!(store.0.live.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_process_held_that_died_is_free_after_its_lease() {
        let store = store();
        store.reserve(&call()).await.unwrap();
        let inside = Arc::clone(store.get_ref());
        drop(store);
        tokio::time::sleep(LEASE).await;
        assert!(inside.reserve(&call()).await.is_ok());
    }
}
