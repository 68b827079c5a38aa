//! Virtual keys as an operator renews and ends them, by `gateway virtual-keys` on the gateway's host.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, command},
    kit::Kit,
    person::Person,
    secret,
};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// What `gateway virtual-keys` answers, if it does what it says.
async fn keys(dir: &Path, arguments: &[&str]) -> Option<Value> {
    let arguments = [&["virtual-keys"], arguments, &["--json"]].concat();
    let said = command(dir, &arguments).await.expect("it runs").json();
    said.inspect_err(|error| println!("{error}")).ok()
}

/// The id of somebody's key in such an answer.
fn key_of(answer: &Value, user: &str) -> Option<String> {
    let mut keys = answer["keys"].as_array().into_iter().flatten();
    let key = keys.find(|key| key["user"] == user)?;
    Some(key["keyId"].as_str()?.to_owned())
}

/// How many keys of somebody are in force, and how many were ended.
fn counted(dir: &Path, user: &str) -> (i64, i64) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = Connection::open_with_flags(dir.join("gateway.db"), flags).expect("the store");
    let count = "SELECT count(*) - count(revoked_at), count(revoked_at) FROM virtual_keys WHERE user_id = ?1";
    let counted = store.query_row(count, [user], |row| Ok((row.get(0)?, row.get(1)?)));
    counted.expect("the keys")
}

#[tokio::test]
async fn a_key_is_rotated_while_its_agent_works_and_revoked_at_once() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (dir, config) = (dir.path(), Config::new(&kit, dir.path())?);
    let gateway = Gateway::start(config, dir).await?;
    let mark = secret::mark()?;
    let (kay, kim) = (&*format!("kay-{mark}"), &*format!("kim-{mark}"));
    let person = Person::sign_in(&kit, kay, &gateway).await?;
    let mut socket = person.open().await?;
    assert_eq!(socket.turn("before").await?.state, "final");
    let other = Person::sign_in(&kit, kim, &gateway).await?;
    let mut other_socket = other.open().await?;

    let first = keys(dir, &["list"]).await.expect("a list");
    let (of_kay, of_kim) = (key_of(&first, kay), key_of(&first, kim));
    assert!(of_kay.is_some() && of_kim.is_some(), "{first}");
    assert!(!first.to_string().contains("ocg-vk-"), "{first}");

    // The same socket goes on, with another key.
    let rotated = keys(dir, &["rotate", kay]).await.expect("rotated");
    assert_ne!(key_of(&rotated, kay), of_kay);
    assert_eq!(counted(dir, kay), (1, 1));
    assert_eq!(socket.turn("after").await?.state, "final");

    let all = keys(dir, &["rotate", "--all"]).await.expect("rotated");
    assert_ne!(key_of(&all, kim), of_kim);
    assert_ne!(key_of(&all, kay), key_of(&rotated, kay));
    assert_eq!((counted(dir, kay), counted(dir, kim)), ((1, 2), (1, 1)));
    assert_eq!(socket.turn("all").await?.state, "final");

    // One that has leaked is good for nothing; who comes again has another.
    keys(dir, &["revoke", kay]).await.expect("revoked");
    assert_eq!(counted(dir, kay), (0, 3));
    let mut again = person.open().await?;
    assert_eq!(counted(dir, kay), (1, 3));
    let turn = again.turn("again").await?;
    assert_eq!(turn.state, "final", "{turn:?}");

    // Until then it is refused, for which the instance disables the provider for a minute.
    keys(dir, &["revoke", kim]).await.expect("revoked");
    let cut_off = other_socket.turn("never").await?;
    assert_eq!(cut_off.state, "error", "{cut_off:?}");
    assert!(!cut_off.text.contains("never"), "{cut_off:?}");

    assert_eq!(keys(dir, &["rotate", "nobody"]).await, None);
    assert_eq!(keys(dir, &["revoke", "nobody"]).await, None);
    Ok(())
}
