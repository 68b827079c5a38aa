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
    redis::Redis,
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
    world.is_as(&before, true, dir).await?;
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
    bring_people_back(None).await
}

#[tokio::test]
async fn they_do_with_a_redis_that_is_empty_but_for_sessions_and_tokens() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    bring_people_back(Some(Redis::start(dir.path()).await?)).await
}

async fn bring_people_back(redis: Option<Redis>) -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let backup = tempfile::tempdir().expect("a temporary directory");
    let (dir, copy) = (dir.path(), backup.path().join("gateway-1.db"));
    let database = create_database(&kit.postgres).await?;
    let url = redis.as_ref().map(Redis::url);
    let config = Config::new(&kit, dir)?.sharing_store(&database, url.as_deref())?;
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
    if let Some(redis) = &redis {
        redis.command(&["FLUSHALL"]).await?;
    }

    restore(&world.kit, &database, &dump).await;
    unpack(dir, &backup.path().join("users.tar")).await;
    fs::copy(&copy, dir.join("gateway.db")).expect("a copy");
    world.gateway.start_again().await?;
    world.is_as(&before, redis.is_none(), dir).await?;
    let hers = settled(dir, &alice, 3).await?;
    assert_eq!(counted(&hers), (3, 3));
    let is_shipped = |usage: &Value| usage["total"]["runs"] == 3;
    world.alice.wait_for("/api/usage", is_shipped).await?;
    assert_eq!(calls(&has(&world.alice).await?), 3);
    // What was under way is there once, whether the ledger or the database had it first.
    nothing_is_there_twice(&database).await;
    Ok(())
}

#[tokio::test]
async fn where_postgres_alone_was_lost_ledgers_ship_again_and_counters_are_made_from_them()
-> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let backup = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let database = create_database(&kit.postgres).await?;
    let config = Config::new(&kit, dir)?.sharing_store(&database, None)?;
    let mut world = World::start(kit, config, dir).await?;
    let alice = world.names[0].clone();
    settled(dir, &alice, 2).await?;
    let shipped = |runs: u64| move |usage: &Value| usage["total"]["runs"] == runs;
    world.alice.wait_for("/api/usage", shipped(2)).await?;
    let dump = backup.path().join("gateway.dump").display().to_string();
    run(
        "pg_dump",
        &["--format=custom", "--file", &dump, "--dbname", &database],
    )
    .await;
    let mut socket = world.alice.open().await?;
    assert_eq!(socket.turn("after the backup").await?.state, "final");
    settled(dir, &alice, 3).await?;
    world.alice.wait_for("/api/usage", shipped(3)).await?;
    let before = has(&world.alice).await?;
    assert_eq!(calls(&before), 3);
    world.gateway.kill9().await?;

    restore(&world.kit, &database, &dump).await;
    // As deploy/BACKUP.md says.
    let tables = "quota_database, quota_accounts, quota_counters, quota_reservations";
    postgres(&database, &format!("DROP TABLE {tables}")).await;
    world.gateway.start_again().await?;
    world.alice.wait_for("/api/usage", shipped(3)).await?;
    assert_eq!(has(&world.alice).await?, before);
    let mut socket = world.alice.open().await?;
    assert_eq!(socket.turn("again").await?.state, "final");
    settled(dir, &alice, 4).await?;
    world.alice.wait_for("/api/usage", shipped(4)).await?;
    assert_eq!(calls(&has(&world.alice).await?), 4);
    nothing_is_there_twice(&database).await;
    Ok(())
}

/// Puts a database in the place of the one of that name.
async fn restore(kit: &Kit, database: &str, dump: &str) {
    let (_, name) = database.rsplit_once('/').expect("a name");
    for statement in ["DROP DATABASE $ WITH (FORCE)", "CREATE DATABASE $"] {
        postgres(&kit.postgres, &statement.replace('$', name)).await;
    }
    run(
        "pg_restore",
        &["--exit-on-error", "--dbname", database, dump],
    )
    .await;
}

async fn nothing_is_there_twice(database: &str) {
    let twice =
        "SELECT count(*) FROM (SELECT FROM token_usage_logs GROUP BY id HAVING count(*) > 1) t";
    assert_eq!(number(database, twice).await, 0);
    let paid_twice =
        "SELECT count(*) FROM (SELECT FROM token_usage_logs WHERE operation = 'model_call'
                      AND response_id IS NOT NULL GROUP BY response_id HAVING count(*) > 1) t";
    assert_eq!(number(database, paid_twice).await, 0);
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
