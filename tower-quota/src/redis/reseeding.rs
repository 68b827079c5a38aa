use std::{fmt, sync::Arc};

use super::{
    decide::{Coming, another},
    store::RedisStore,
};
use crate::{Amounts, Settled, StoreError, Subject, Terms, Ticket, remote::Known};

/// What one member counts, of what its ledger says: see [`RedisStore::reseed`].
///
/// It can be dropped, or its process die, and be begun again: what has been counted under a ticket counts once.
pub struct RedisReseeding {
    store: RedisStore,
    member: Box<str>,
    coming: Coming,
}

// === impl RedisReseeding ===

impl RedisReseeding {
    pub(super) async fn begin(
        store: RedisStore,
        member: &str,
        known: &[String],
    ) -> Result<Self, StoreError> {
        let members = store.members().await?;
        let epoch = members.epoch();
        let (begun, is_present) = match members.present() {
            Some(present) if store.epochs().is_whole(epoch).await? => (present, true),
            _ => {
                let begun = store.epochs().begin(member, epoch, known).await?;
                (begun.ok_or_else(another)?, false)
            }
        };
        Ok(Self {
            coming: Coming {
                begun,
                known: Arc::new(Known::new(store.plans())),
                is_present,
            },
            store,
            member: member.into(),
        })
    }

    /// The epoch that is counted for. What is reserved in it is not for this reseeding to count.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.coming.begun.name
    }

    /// Counts what was used by what the ticket names, as [`RedisStore::count`] does. Tickets are one's own, and of this epoch
    /// alone: the same work is of another ticket in another epoch.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the server does not answer, or if the counters are reseeded for another epoch by now.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, it may count or not. It can be repeated.
    pub async fn count(&self, ticket: &Ticket, used: Amounts) -> Result<Settled, StoreError> {
        self.is_awaited().await?;
        self.store.count_in(ticket, used, Some(&self.coming)).await
    }

    /// Holds what the ticket names held in the counters that were lost, so that nobody is let in in its place, under a lease
    /// that begins anew. It is settled, renewed and released by the same ticket.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, it may be held or not. It can be repeated.
    pub async fn hold(&self, ticket: &Ticket, held: Amounts) -> Result<(), StoreError> {
        self.is_awaited().await?;
        self.store.hold_in(ticket, held, &self.coming).await
    }

    /// Gives `subject` these terms, as [`set_terms`](crate::QuotaStore::set_terms) does: a server that has lost counters
    /// has lost them too, and then their version is zero. They count at once.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, it is not known whether they are set.
    pub async fn set_terms(&self, subject: &Subject, terms: Terms) -> Result<bool, StoreError> {
        let coming = Some(&self.coming);
        self.store.set_terms_in(subject, &terms, coming).await
    }

    /// Says that this member has counted everything. An epoch that is to come begins as soon as the last one says so: stores
    /// of all processes go by it with their next decision.
    ///
    /// # Errors
    ///
    /// As [`count`](Self::count).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before its end, it may be said or not: [`RedisStore::members`] tells.
    pub async fn finish(self) -> Result<(), StoreError> {
        let epochs = self.store.epochs();
        let begun = self.coming.begun;
        let said = match self.coming.is_present {
            true => epochs.enter(&self.member, &begun.to_string()).await?,
            false => epochs.done(&self.member, begun).await?,
        };
        match said {
            true => self.store.members().await.map(drop),
            false => Err(another()),
        }
    }

    /// In a Cluster a script cannot see it.
    async fn is_awaited(&self) -> Result<(), StoreError> {
        let begun = self.coming.begun;
        if self.store.is_clustered() && !self.store.epochs().members().await?.is_at(begun) {
            return Err(another());
        }
        Ok(())
    }
}

impl fmt::Debug for RedisReseeding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisReseeding")
            .field("member", &self.member)
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}
