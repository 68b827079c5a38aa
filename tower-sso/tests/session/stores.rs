//! Every store keeps the laws.

use std::sync::Arc;

use tower_sso::session::{MemoryStore, SqliteStore, laws};

use crate::support;

#[tokio::test]
async fn memory_keeps_the_laws() {
    laws::check(&MemoryStore::new()).await;
}

#[tokio::test]
async fn sqlite_keeps_the_laws() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sessions.db");
    laws::check(&SqliteStore::open(&path).unwrap()).await;
    let again = SqliteStore::open(&path).unwrap();
    laws::check(&again).await;
}

#[tokio::test]
async fn shared_stores_keep_the_laws() {
    for (name, store) in support::shared_stores().await {
        println!("{name}");
        laws::check(&Arc::clone(&store)).await;
    }
}
