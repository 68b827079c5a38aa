use std::{fmt, sync::Arc, time::SystemTime};

use tokio::runtime::Handle;

use super::{decide::Coming, epoch::Begun, store::RedisStore};
use crate::{Amounts, StoreError, Subject, Terms, remote::Known};

/// Counters that are counted again, after a server has lost them: see [`RedisStore::reseed`].
///
/// Nothing of it counts until [`begin_epoch`](Self::begin_epoch). If it is dropped, or its process dies, what was
/// counted is thrown away, and somebody else can begin again: at once, or after a minute.
pub struct RedisReseeding {
    store: RedisStore,
    coming: Coming,
    over: bool,
}

// === impl RedisReseeding ===

impl RedisReseeding {
    pub(super) async fn begin(store: RedisStore) -> Result<Self, StoreError> {
        let begun = Begun::again();
        if store.epochs().claim(begun).await? {
            let known = Arc::new(Known::new(store.plans()));
            let coming = Coming { begun, known };
            let over = false;
            Ok(Self {
                store,
                coming,
                over,
            })
        } else {
            Err(StoreError::new("somebody else is reseeding Redis"))
        }
    }

    /// Counts what `subject` used, in the windows of `admitted_at`, as [`RedisStore::add_used`] does.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server does not answer, or if there was a pause of a minute and somebody else reseeds by now.
    /// After one it is not known whether it counts: drop this, and begin again.
    ///
    /// # Cancel safety
    ///
    /// None: if the future is dropped before its end, it is not known whether it counts.
    pub async fn add_used(
        &self,
        subject: &Subject,
        admitted_at: SystemTime,
        used: Amounts,
    ) -> Result<(), StoreError> {
        self.hold_on().await?;
        let coming = Some(&self.coming);
        self.store.count(subject, admitted_at, used, coming).await
    }

    /// Gives `subject` these terms, as [`set_terms`](crate::QuotaStore::set_terms) does: a server that has lost counters
    /// has lost them too, and then their version is zero. They count at once.
    ///
    /// # Errors
    ///
    /// As [`add_used`](Self::add_used).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, it is not known whether they are set.
    pub async fn set_terms(&self, subject: &Subject, terms: Terms) -> Result<bool, StoreError> {
        self.hold_on().await?;
        let coming = Some(&self.coming);
        self.store.set_terms_in(subject, &terms, coming).await
    }

    /// Has it all count from now on, everywhere: stores of other processes, which knew the counters that were lost, go
    /// by these as soon as they see them.
    ///
    /// # Errors
    ///
    /// As [`add_used`](Self::add_used).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, the epoch may have begun or not: [`RedisStore::lost`] tells, after another
    /// decision.
    pub async fn begin_epoch(mut self) -> Result<(), StoreError> {
        self.over = true;
        if !self.store.epochs().publish(self.coming.begun).await? {
            return Err(not_ours());
        }
        self.store.epoch().begin(self.coming.begun.name);
        Ok(())
    }

    async fn hold_on(&self) -> Result<(), StoreError> {
        match self.store.epochs().renew(self.coming.begun).await? {
            true => Ok(()),
            false => Err(not_ours()),
        }
    }
}

impl Drop for RedisReseeding {
    fn drop(&mut self) {
        let (store, coming) = (self.store.clone(), self.coming.begun);
        if !self.over
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { store.epochs().give_up(coming).await });
        }
    }
}

impl fmt::Debug for RedisReseeding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisReseeding").finish_non_exhaustive()
    }
}

fn not_ours() -> StoreError {
    StoreError::new("reseeding Redis took too long, and is not this process's any more")
}
