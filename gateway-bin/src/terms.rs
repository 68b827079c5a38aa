//! What people are allowed beside their plan: kept in the store, and in force in the counters.

use std::sync::Arc;

use thiserror::Error;
use tower_quota::{QuotaStore, Subject, Terms};

use crate::store::{Store, StoreError};

/// Reads and changes what is special about people; clones share it.
#[derive(Clone)]
pub struct PeoplesTerms {
    store: Store,
    quota: Arc<dyn QuotaStore>,
    /// Whether the counters remember terms by themselves, for all gateways that use them.
    are_shared: bool,
}

/// Why terms were not read or changed. Nothing has changed then, or, where counters are shared and the store does not answer,
/// they are in force and not kept for the case that the counters are lost: set them again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TermsError {
    /// The counters cannot be asked.
    #[error("the quota store does not answer")]
    Quota(#[from] tower_quota::StoreError),
    /// They cannot be kept.
    #[error("the store does not answer")]
    Store(#[from] StoreError),
    /// Others change them again and again, or have since they were read.
    #[error("they were changed by somebody else")]
    Changed,
}

/// How often somebody else may change them at the same moment.
const ATTEMPTS: usize = 8;

// === impl PeoplesTerms ===

impl PeoplesTerms {
    /// Terms in this store, for these counters; `are_shared`: which remember them by themselves, for other gateways too.
    #[must_use]
    pub fn new(store: Store, quota: Arc<dyn QuotaStore>, are_shared: bool) -> Self {
        Self {
            store,
            quota,
            are_shared,
        }
    }

    /// Puts what the store has into force, before anything is counted: days begin where their people are. Counters that
    /// are shared have it.
    ///
    /// # Errors
    ///
    /// [`TermsError`].
    pub async fn restore(&self) -> Result<(), TermsError> {
        if self.are_shared {
            return Ok(());
        }
        for (subject, terms) in self.store.all_terms().await? {
            let subject = Subject::from(subject);
            let version = self.quota.terms(&subject).await?.version();
            self.quota
                .set_terms(&subject, terms.at_version(version))
                .await?;
        }
        Ok(())
    }

    /// What is special about somebody.
    ///
    /// # Errors
    ///
    /// [`TermsError`].
    pub async fn of(&self, user_id: &Arc<str>) -> Result<Terms, TermsError> {
        Ok(self.quota.terms(&user_id.into()).await?)
    }

    /// Changes what is special about somebody, from their next request on, and answers it.
    ///
    /// # Errors
    ///
    /// [`TermsError`], and [`Changed`](TermsError::Changed) if it always is meanwhile.
    pub async fn change(
        &self,
        user_id: &Arc<str>,
        change: impl Fn(Terms) -> Terms + Send + Sync,
    ) -> Result<Terms, TermsError> {
        for _ in 0..ATTEMPTS {
            let terms = change(self.of(user_id).await?);
            if self.set(user_id, terms.clone()).await? {
                let version = terms.version().saturating_add(1);
                return Ok(terms.at_version(version));
            }
        }
        Err(TermsError::Changed)
    }

    /// Sets what is special about somebody. `false` if it is another version than that of `terms`.
    ///
    /// # Errors
    ///
    /// [`TermsError`].
    pub async fn set(&self, user_id: &Arc<str>, terms: Terms) -> Result<bool, TermsError> {
        let subject = Subject::from(user_id);
        if self.are_shared {
            // What is kept here is for counters that were lost.
            let is_set = self.quota.set_terms(&subject, terms.clone()).await?;
            // Whoever is last keeps what is in force.
            let mut kept = None;
            if is_set {
                loop {
                    let terms = self.quota.terms(&subject).await?;
                    if kept == Some(terms.version()) {
                        break;
                    }
                    self.store.put_terms(user_id, &terms).await?;
                    kept = Some(terms.version());
                }
            }
            return Ok(is_set);
        }
        if self.quota.terms(&subject).await?.version() != terms.version() {
            return Ok(false);
        }
        // First kept, then in force: what was answered is there after a crash too. Of two at once the one that comes
        // into force last is kept last, since the other begins anew.
        self.store.put_terms(user_id, &terms).await?;
        Ok(self.quota.set_terms(&subject, terms).await?)
    }
}

impl std::fmt::Debug for PeoplesTerms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeoplesTerms").finish_non_exhaustive()
    }
}
