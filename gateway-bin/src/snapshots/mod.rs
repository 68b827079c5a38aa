//! What there is of people, taken now and then: sizes, counts and states, never contents, names of files or keys.

mod content;
mod schedule;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::Semaphore;
use tower_quota::QuotaStore;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::rfc3339;
use crate::egress::OwnKeys;
use crate::environment::Environments;
use crate::sign_in::SignIn;
use crate::store::{SnapshotRow, Store, StoreError};

pub use self::schedule::Schedule;

/// How many are taken at a time: each walks through a directory.
const AT_ONCE: usize = 2;

/// Takes snapshots of people, and shows those that were taken; clones share their places.
#[derive(Clone)]
pub struct Snapshots {
    store: Store,
    environments: Environments,
    own_keys: OwnKeys,
    sign_in: SignIn,
    quota: Arc<dyn QuotaStore>,
    places: Arc<Semaphore>,
}

/// Why there is no snapshot.
#[derive(Debug, Error)]
#[error("{what} failed")]
pub struct SnapshotError {
    what: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

// === impl Snapshots ===

impl Snapshots {
    /// Snapshots of what these know of people.
    #[must_use]
    pub fn new(
        store: Store,
        environments: Environments,
        own_keys: OwnKeys,
        sign_in: SignIn,
        quota: Arc<dyn QuotaStore>,
    ) -> Self {
        Self {
            store,
            environments,
            own_keys,
            sign_in,
            quota,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Takes one of everything that somebody has, and keeps it; nothing if they are not here, or are being deleted.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`]; nothing is kept then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave it kept or not.
    pub async fn take(&self, user_id: &Arc<str>) -> Result<Vec<SnapshotRow>, SnapshotError> {
        let place = self.places.acquire().await;
        let _place = place.map_err(failed("gateway"))?;
        let found = self.content_of(user_id).await?;
        let found: Vec<_> = found
            .into_iter()
            .map(|(what, data)| (Uuid::now_v7().to_string(), what, data.to_string()))
            .collect();
        let ids: Vec<_> = found.iter().map(|(id, ..)| id.clone()).collect();
        let put = self.store.put_snapshots(user_id, found);
        put.await.map_err(failed("store"))?;
        let mut kept = Vec::new();
        for id in ids {
            let found = self.store.find_snapshot(user_id, &id).await;
            kept.extend(found.map_err(failed("store"))?);
        }
        Ok(kept)
    }

    /// Snapshots of somebody, the latest first, from behind the one with the id `after`, or from the beginning if that is
    /// empty; at most `limit`.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does nothing.
    pub async fn list(
        &self,
        user_id: &Arc<str>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<SnapshotRow>, StoreError> {
        self.store.snapshots(user_id, after, limit).await
    }
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").finish_non_exhaustive()
    }
}

/// A snapshot as answers and exports show it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShownSnapshot {
    id: String,
    /// `workspace_files`, `api_keys`, `quota_status` or `sandbox_status`.
    r#type: String,
    #[schema(format = DateTime)]
    taken_at: String,
    /// Sizes, counts and states.
    data: Value,
}

pub(crate) fn shown(snapshot: &SnapshotRow) -> ShownSnapshot {
    ShownSnapshot {
        id: snapshot.id.clone(),
        r#type: snapshot.snapshot_type.clone(),
        taken_at: rfc3339(snapshot.created_at),
        data: serde_json::from_str(&snapshot.data).unwrap_or_default(),
    }
}

fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl Fn(E) -> SnapshotError {
    move |error| SnapshotError {
        what,
        source: error.into(),
    }
}
