//! What a backup brings back: it is taken while people work, everything else is destroyed, and people go on from there.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod openclaw;
mod world;

use std::{fs, path::Path};

use gateway_tests::{
    error::Result,
    gateway::Config,
    kit::Kit,
    ledger::{Recorded, settled},
    person::Person,
    postgres::create_database,
};
use serde_json::Value;
use tokio_postgres::NoTls;

use crate::world::{World, archive, calls, counted, destroy, gateway, has, run, unpack};

#[tokio::test]
async fn an_sqlite_file_that_was_copied_under_way_brings_people_back() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let backup = tempfile::tempdir().expect("a temporary directory");
    let (dir, copy) = (dir.path(), backup.path().join("gateway-1.db"));
    let config = Config::new(&kit, dir)?;
    let mut world = World::start(kit, config, dir).await?;
    let (stop, working) = world.begin_traffic().await?;
    let (alice, bob) = (world.names[0].clone(), world.names[1].clone());
    settled(dir, &alice, 2).await?;
    let before = has(&world.alice).await?;
    assert_eq!(calls(&before), 2);

    archive(dir, &backup.path().join("users.tar")).await;
    let to = copy.display().to_string();
    let said = gateway(dir, &["backup", "--to", &to]).await;
    assert!(said.contains("checked"), "{said}");
    assert!(!working.is_finished(), "bob works all the time");
    world.go_on(dir).await?;
    assert_ne!(has(&world.alice).await?, before);
    let _ = stop.send(true);
    let turns = working.await.expect("a task");
    assert!(turns > 1, "{turns}");
    world.gateway.kill9().await?;
    destroy(dir);

    unpack(dir, &backup.path().join("users.tar")).await;
    fs::copy(&copy, dir.join("gateway.db")).expect("a copy");
    world.gateway.start_again().await?;
    world.is_as(&before, dir).await?;
    // Each is counted once, of before and of after.
    let hers = settled(dir, &alice, 3).await?;
    assert_eq!(counted(&hers), (3, 3));
    assert_eq!(calls(&has(&world.alice).await?), 3);
    // His are those of the backup, one of them perhaps as far as it had come then.
    let his = has_settled(dir, &bob).await?;
    let (runs, _) = counted(&his);
    assert!((1..=turns).contains(&runs), "{runs} of {turns}");
    let him = Person::sign_in(&world.kit, &bob, &world.gateway).await?;
    assert_eq!(calls(&has(&him).await?), runs, "{his:#?}");
    Ok(())
}

/// The records of somebody who rests, once all are settled.
async fn has_settled(dir: &Path, user: &str) -> Result<Vec<Recorded>> {
    let path = dir.join("gateway.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = rusqlite::Connection::open_with_flags(path, flags).expect("the store");
    let counted =
        "SELECT count(*) FROM token_usage_logs WHERE user_id = ?1 AND operation = 'model_call'";
    let counted: i64 = file
        .query_row(counted, [user], |row| row.get(0))
        .expect("a number");
    settled(dir, user, usize::try_from(counted).expect("a number")).await
}

#[tokio::test]
async fn postgres_and_the_ledgers_of_one_backup_bring_people_back() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let backup = tempfile::tempdir().expect("a temporary directory");
    let (dir, copy) = (dir.path(), backup.path().join("gateway-1.db"));
    let database = create_database(&kit.postgres).await?;
    let config = Config::new(&kit, dir)?.sharing_store(&database, None)?;
    let mut world = World::start(kit, config, dir).await?;
    let (stop, working) = world.begin_traffic().await?;
    let alice = world.names[0].clone();
    settled(dir, &alice, 2).await?;
    let is_shipped = |usage: &Value| usage["total"]["runs"] == 2;
    world.alice.wait_for("/api/usage", is_shipped).await?;
    let before = has(&world.alice).await?;
    assert_eq!(calls(&before), 2);

    // In the order of deploy/BACKUP.md.
    archive(dir, &backup.path().join("users.tar")).await;
    gateway(dir, &["backup", "--to", &copy.display().to_string()]).await;
    let dump = backup.path().join("gateway.dump").display().to_string();
    run(
        "pg_dump",
        &["--format=custom", "--file", &dump, "--dbname", &database],
    )
    .await;
    assert!(!working.is_finished(), "bob works all the time");
    world.go_on(dir).await?;
    let _ = stop.send(true);
    let turns = working.await.expect("a task");
    assert!(turns > 1, "{turns}");
    world.gateway.kill9().await?;
    destroy(dir);
    let (_, name) = database.rsplit_once('/').expect("a name");
    postgres(
        &world.kit.postgres,
        &format!("DROP DATABASE {name} WITH (FORCE)"),
    )
    .await;

    postgres(&world.kit.postgres, &format!("CREATE DATABASE {name}")).await;
    run(
        "pg_restore",
        &["--exit-on-error", "--dbname", &database, &dump],
    )
    .await;
    unpack(dir, &backup.path().join("users.tar")).await;
    fs::copy(&copy, dir.join("gateway.db")).expect("a copy");
    world.gateway.start_again().await?;
    world.is_as(&before, dir).await?;
    let hers = settled(dir, &alice, 3).await?;
    assert_eq!(counted(&hers), (3, 3));
    let is_shipped = |usage: &Value| usage["total"]["runs"] == 3;
    world.alice.wait_for("/api/usage", is_shipped).await?;
    assert_eq!(calls(&has(&world.alice).await?), 3);
    // What was under way is there once, whether the ledger or the database had it first.
    let twice =
        "SELECT count(*) FROM (SELECT FROM token_usage_logs GROUP BY id HAVING count(*) > 1) t";
    assert_eq!(number(&database, twice).await, 0);
    let paid_twice =
        "SELECT count(*) FROM (SELECT FROM token_usage_logs WHERE operation = 'model_call'
                      AND response_id IS NOT NULL GROUP BY response_id HAVING count(*) > 1) t";
    assert_eq!(number(&database, paid_twice).await, 0);
    Ok(())
}

async fn postgres(url: &str, statement: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres");
    let driver = tokio::spawn(connection);
    client.batch_execute(statement).await.expect(statement);
    drop(client);
    driver.await.expect("a task").expect("a connection");
}

async fn number(url: &str, query: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres");
    tokio::spawn(connection);
    client.query_one(query, &[]).await.expect(query).get(0)
}
