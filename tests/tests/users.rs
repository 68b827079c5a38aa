//! People as an operator lists and deletes them, by `gateway users` on the gateway's host.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{fs, path::Path, time::Duration};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, command},
    kit::Kit,
    person::Person,
    secret,
};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tokio::process::Command;

/// What `gateway users` answers, if it does what it says.
async fn users(dir: &Path, arguments: &[&str]) -> Option<Value> {
    let arguments = [&["users"], arguments, &["--json"]].concat();
    let said = command(dir, &arguments).await.expect("it runs").json();
    said.inspect_err(|error| println!("{error}")).ok()
}

/// The agent of somebody in the list of all, if they are in it.
async fn agent_of(dir: &Path, user: &str) -> Option<String> {
    let all = users(dir, &["list"]).await.expect("a list");
    let mut all = all["users"].as_array().into_iter().flatten();
    let listed = all.find(|listed| listed["user"] == user)?;
    Some(listed["agent"].as_str().unwrap_or_default().to_owned())
}

fn count(dir: &Path, sql: &str, user: &str) -> i64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = Connection::open_with_flags(dir.join("gateway.db"), flags).expect("the store");
    let counted = store.query_row(sql, [user], |row| row.get(0));
    counted.expect("a number")
}

#[tokio::test]
async fn d4_47_who_is_deleted_is_gone_and_others_work_on() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (dir, config) = (dir.path(), Config::new(&kit, dir.path())?);
    let root = dir.join("users");
    let gateway = Gateway::start(config, dir).await?;
    let mark = secret::mark()?;
    let (alice, bob) = (&*format!("alice-{mark}"), &*format!("bob-{mark}"));
    let person = Person::sign_in(&kit, alice, &gateway).await?;
    let mut hers = person.open().await?;
    assert_eq!(hers.turn("hers").await?.state, "final");
    let other = Person::sign_in(&kit, bob, &gateway).await?;
    let mut his = other.open().await?;
    assert_eq!(his.turn("his").await?.state, "final");
    let agents = (agent_of(dir, alice).await, agent_of(dir, bob).await);
    let notes = root.join(alice).join("workspace/notes.md");
    fs::write(&notes, "hers").expect("a file of hers");
    let records = "SELECT count(*) FROM token_usage_logs WHERE user_id = ?1";
    let kept = count(dir, records, alice);
    assert_ne!(kept, 0);

    let delete = ["delete", alice];
    let (deleted, turn) = tokio::join!(users(dir, &delete), his.turn("meanwhile"));
    assert!(deleted.is_some());
    assert_eq!(turn?.state, "final", "bob is not disturbed");
    assert!(hers.turn("never").await.is_err(), "her socket is closed");
    assert_eq!(agent_of(dir, alice).await, None);
    assert_eq!(agent_of(dir, bob).await, agents.1);
    let names = fs::read_dir(&root)
        .expect("the root")
        .map(|entry| entry.expect("an entry"));
    let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
    assert_eq!(names, [bob]);
    assert_eq!(count(dir, records, alice), kept, "the books keep her id");
    let named = "SELECT count(*) FROM oauth_users WHERE user_id = ?1 AND (email IS NOT NULL OR name IS NOT NULL)";
    assert_eq!(count(dir, named, alice), 0);
    let in_force = "SELECT count(*) FROM virtual_keys WHERE user_id = ?1 AND revoked_at IS NULL";
    assert_eq!(count(dir, in_force, alice), 0);
    assert_eq!(users(dir, &["delete", "nobody"]).await, None);

    // Whoever comes with that id is new.
    let again = Person::sign_in(&kit, alice, &gateway).await?;
    // That they were kept out is over for the gateway when it hears of it, within seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut fresh = again.open().await?;
    assert_eq!(fresh.turn("again").await?.state, "final");
    assert!(!notes.exists());
    let agent = agent_of(dir, alice).await;
    assert!(
        agent.is_some() && agent != agents.0 && agent != agents.1,
        "{agent:?}"
    );
    let mut his = other.open().await?;
    assert_eq!(his.turn("still").await?.state, "final");

    for _ in 0..2 {
        assert!(
            users(dir, &delete).await.is_some(),
            "it can be asked for again"
        );
        assert_eq!(agent_of(dir, alice).await, None);
    }
    Ok(())
}

#[tokio::test]
async fn d4_47_an_export_has_everything_of_one_and_nothing_of_others() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (dir, config) = (dir.path(), Config::new(&kit, dir.path())?);
    let root = dir.join("users");
    let gateway = Gateway::start(config, dir).await?;
    let mark = secret::mark()?;
    let (ann, ben) = (&*format!("ann-{mark}"), &*format!("ben-{mark}"));
    for who in [ann, ben] {
        let person = Person::sign_in(&kit, who, &gateway).await?;
        let mut socket = person.open().await?;
        assert_eq!(socket.turn("hello").await?.state, "final");
        let workspace = root.join(who).join("workspace");
        fs::write(workspace.join("notes.md"), format!("notes of {who}")).expect("notes");
    }
    let bens = root.join(ben).join("workspace/notes.md");
    let hers = root.join(ann).join("workspace");
    std::os::unix::fs::symlink(&bens, hers.join("link")).expect("a link");
    fs::hard_link(&bens, hers.join("hard")).expect("a second name");

    let archive = dir.join("ann.tar");
    let output = archive.to_str().expect("a path");
    let export = ["export", ann, "--output", output];
    assert!(users(dir, &export).await.is_some());
    assert_eq!(users(dir, &export).await, None, "it is there already");
    let none = dir.join("nobody.tar");
    let nobody = [
        "export",
        "nobody",
        "--output",
        none.to_str().expect("a path"),
    ];
    assert_eq!(users(dir, &nobody).await, None);
    assert!(!none.exists());

    let out = dir.join("out");
    fs::create_dir(&out).expect("a directory");
    let mut tar = Command::new("tar");
    let tar = tar.arg("-xf").arg(&archive).arg("-C").arg(&out).status();
    assert!(tar.await.expect("tar").success());
    let read = |name: &str| fs::read_to_string(out.join(name)).expect("a file");
    let json = |name: &str| serde_json::from_str::<Value>(&read(name)).expect("JSON");
    assert_eq!(read("workspace/notes.md"), format!("notes of {ann}"));
    assert_eq!(json("about.json")["user"], ann);
    let records = read("usage/records-000001.jsonl");
    assert!(records.lines().count() >= 1);
    for line in records.lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(record["userId"], ann);
    }
    let told = json("export.json");
    assert_eq!(told["omissions"][0]["path"], "workspace/hard", "{told}");
    assert_eq!(told["omitted"], 1);
    let bytes = fs::read(&archive).expect("the archive");
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains(&format!("notes of {ben}")));
    for secret in ["ocg-vk-", "sk-test"] {
        assert!(!text.contains(secret), "{secret}");
    }
    Ok(())
}
