//! That no other gateway of a shared store starts cells: somebody would have two.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, warn};

use super::CellsError;
use crate::store::Store;

/// The lease's name in the store.
const NAME: &str = "cells";

/// How long after the end of a gateway another may have it.
const LENGTH: Duration = Duration::from_secs(60);

/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(20);

/// Takes it for the gateway with the directory `dir`, also if that has had it until it was killed, and keeps it.
pub(super) async fn hold(store: &Store, dir: &Path) -> Result<(), CellsError> {
    if !store.is_shared() {
        return Ok(());
    }
    let holder = holder(dir).map_err(|source| CellsError::Dir {
        path: dir.to_owned(),
        source,
    })?;
    let is_held = store.lease(NAME, &holder, LENGTH).await;
    if !is_held.map_err(|error| CellsError::Store(Box::new(error)))? {
        return Err(CellsError::Elsewhere);
    }
    let store = store.clone();
    tokio::spawn(async move {
        loop {
            sleep(RENEW).await;
            match store.lease(NAME, &holder, LENGTH).await {
                Ok(true) => {}
                Ok(false) => error!("another gateway starts cells, too: somebody may have two"),
                Err(error) => {
                    warn!(%error, "the store does not say whether another gateway starts cells");
                }
            }
        }
    });
    Ok(())
}

/// By what the store knows whoever has this directory.
fn holder(dir: &Path) -> io::Result<String> {
    let path = dir.join("id");
    match fs::read_to_string(&path) {
        Ok(id) if !id.is_empty() => Ok(id),
        _ => {
            let id = uuid::Uuid::new_v4().to_string();
            fs::write(&path, &id)?;
            Ok(id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Database;

    #[tokio::test]
    async fn of_gateways_that_share_a_store_one_starts_cells() {
        let Some(database) = Database::new().await else {
            return;
        };
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = database.store().await;
        hold(&store, one.path()).await.unwrap();
        let refused = hold(&database.store().await, other.path()).await;
        assert!(matches!(refused, Err(CellsError::Elsewhere)));
        hold(&database.store().await, one.path())
            .await
            .expect("it was killed and is there again");
        database.end().await;
    }
}
