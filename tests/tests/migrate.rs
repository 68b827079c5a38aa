//! `gateway migrate`: what it would do, that it does it, and what it refuses.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, Said, command},
    kit::Kit,
};
use rusqlite::Connection;
use serde_json::{Value, json};

/// What `gateway migrate` answers when it does what it says, with the configuration in `dir`.
async fn answer(dir: &Path, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    migrate(dir, &arguments).await.json().expect("an answer")
}

/// What it says when it does not.
async fn refusal(dir: &Path, arguments: &[&str]) -> String {
    let refused = migrate(dir, arguments).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    refused.error
}

async fn migrate(dir: &Path, arguments: &[&str]) -> Said {
    let arguments = [&["migrate"], arguments].concat();
    command(dir, &arguments).await.expect("it runs")
}

/// Of each kind of tables the version that there was.
fn from(answer: &Value) -> Vec<(String, u64)> {
    let tables = answer["tables"].as_array().into_iter().flatten();
    let of = |one: &Value| {
        let from = one["from"].as_u64().expect("a version");
        let missing = one["migrations"].as_array().expect("a list").len() as u64;
        assert_eq!(from + missing, one["to"].as_u64().expect("a version"));
        (one["tables"].as_str().unwrap_or_default().to_owned(), from)
    };
    tables.map(of).collect()
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let files = fs::read_dir(dir).expect("a directory");
    files.map(|file| file.expect("a file").path()).collect()
}

fn is_up_to_date(answer: &Value) -> bool {
    let tables = answer["tables"].as_array().into_iter().flatten();
    tables.into_iter().all(|one| one["migrations"] == json!([]))
}

#[tokio::test]
async fn a_file_is_made_and_brought_up_to_date_and_a_gateway_goes_on_with_it() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (dir, config) = (dir.path(), Config::new(&kit, dir.path())?);
    fs::write(dir.join("gateway.toml"), &config.text).expect("a configuration");
    let before = files(dir);
    let planned = answer(dir, &["--dry-run"]).await;
    assert_eq!(files(dir), before, "it makes nothing");
    let new: Vec<_> = ["state", "ledger", "sessions"]
        .map(|kind| (kind.to_owned(), 0))
        .into();
    assert_eq!(from(&planned), new);
    let first = &planned["tables"][0]["migrations"][0];
    assert_eq!(first["version"], 1, "{planned}");
    let name = first["name"].as_str().expect("a name");
    let told = migrate(dir, &["--dry-run"]).await.text;
    assert!(
        told.contains(name) && told.contains("would be made"),
        "{told}"
    );

    let done = answer(dir, &[]).await;
    assert_eq!(
        (&done["tables"], &done["dryRun"]),
        (&planned["tables"], &json!(false))
    );
    assert!(is_up_to_date(&answer(dir, &["--dry-run"]).await));
    assert!(is_up_to_date(&answer(dir, &[]).await), "and again");

    let mut gateway = Gateway::start(config, dir).await?;
    let taken = refusal(dir, &[]).await;
    assert!(taken.contains("in use by another gateway"), "{taken}");
    let looked = answer(dir, &["--dry-run"]).await;
    assert!(is_up_to_date(&looked), "it may look");
    assert_eq!(looked["inUse"], true);
    gateway.kill().await?;

    let store = dir.join("gateway.db");
    let newer = |table: &str| {
        let file = Connection::open(&store).expect("the file");
        let newer = format!("INSERT INTO {table} (version) VALUES (999)");
        file.execute(&newer, []).expect("it is written");
    };
    newer("gateway_schema");
    for arguments in [&["--dry-run"][..], &[]] {
        let refused = refusal(dir, arguments).await;
        assert!(
            refused.contains("999") && refused.contains("newer"),
            "{refused}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_database_is_made_and_brought_up_to_date() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let database = kit.database().await?;
    let config = Config::new(&kit, dir)?.sharing_store(&database, None)?;
    fs::write(dir.join("gateway.toml"), &config.text).expect("a configuration");
    let before = files(dir);
    let planned = answer(dir, &["--dry-run"]).await;
    assert_eq!(files(dir), before, "it makes nothing");
    let kinds = ["state", "ledger", "ledger", "sessions", "counters"];
    let new: Vec<_> = kinds.map(|kind| (kind.to_owned(), 0)).into();
    assert_eq!(from(&planned), new);
    assert_eq!(
        answer(dir, &["--dry-run"]).await,
        planned,
        "it has made nothing"
    );
    let said = planned.to_string();
    assert!(!said.contains("postgres://"), "{said}");

    answer(dir, &[]).await;
    assert!(is_up_to_date(&answer(dir, &["--dry-run"]).await));
    let mut gateway = Gateway::start(config, dir).await?;
    gateway.kill().await?;

    let (client, connection) = tokio_postgres::connect(&database, tokio_postgres::NoTls)
        .await
        .expect("the database");
    tokio::spawn(connection);
    let newer = "UPDATE token_usage_schema SET version = 999";
    client.batch_execute(newer).await.expect("it is written");
    for arguments in [&["--dry-run"][..], &[]] {
        let refused = refusal(dir, arguments).await;
        assert!(
            refused.contains("999") && refused.contains("newer"),
            "{refused}"
        );
    }
    Ok(())
}
