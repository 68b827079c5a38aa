//! Whoever is exported or deleted, whether their cell runs or not.

use std::{fs, time::Duration};

use ::http::{Request, StatusCode};
use gateway_tests::{error::Result, http, person::Person};
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use serde_json::Value;
use tokio::{process::Command, time::sleep};

use crate::{
    waits::ask,
    world::{World, history, is_alive, kill, open},
};

/// Ann's cell runs and is used, ben's does not run; both were used.
pub(crate) async fn whoever_is_deleted(world: &World, ann: &Person, ben: &Person) -> Result<()> {
    for name in ["ann", "ben"] {
        fs::write(world.workspace(name).join("note.md"), world.user(name)).expect("a note");
    }
    let mut hers = open(ann).await?;
    assert_eq!(hers.turn("what ann said").await?.state, "final");
    let bens = world.pid("ben").expect("a process");
    let record = |name: &str| world.cells.record(&world.user(name));
    counted(world, "ann").await;
    exported(world, "ann", "ben").await?;
    assert!(
        world.pid("ann").is_some_and(is_alive),
        "exported and at work"
    );

    // Hers runs, and she is connected.
    let (pid, os_user) = (
        world.pid("ann").expect("a process"),
        record("ann")["os_user"].clone(),
    );
    let (his, before) = (ask(ben, "meanwhile"), record("ben"));
    let (ann_id, ben_id) = (world.user("ann"), world.user("ben"));
    let delete = ["delete", &*ann_id];
    let (deleted, his) = tokio::join!(world.users(&delete), his);
    assert!(deleted.is_some());
    assert!(
        his?.to_string().contains("meanwhile"),
        "ben is not disturbed"
    );
    assert!(hers.turn("never").await.is_err(), "her socket is closed");
    nothing_is_left(world, "ann", pid)?;
    assert_eq!(world.pid("ben"), Some(bens));
    assert_eq!(record("ben"), before);
    let note = fs::read_to_string(world.workspace("ben").join("note.md"));
    assert_eq!(note.unwrap_or_default(), ben_id);

    // His does not run.
    kill(bens, Signal::KILL);
    let admin = Person::sign_in(&world.kit, "admin", &world.gateway).await?;
    let is_off = |listed: &Value| {
        let mut instances = listed["instances"].as_array().into_iter().flatten();
        instances.any(|it| it["user"] == *ben_id && it["process"]["status"] == "off")
    };
    admin.wait_for("/api/admin/instances", is_off).await?;
    exported(world, "ben", "ann").await?;
    assert!(
        !world.pid("ben").is_some_and(is_alive),
        "for that it need not run"
    );
    let path = format!("/api/admin/users/{ben_id}");
    let request = Request::delete(world.gateway.url(&path));
    let bearer = format!("Bearer {}", admin.token);
    let deleted = http::send(request.header("authorization", bearer), "").await?;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.text());
    nothing_is_left(world, "ben", bens)?;

    // Whoever comes with that id is new.
    sleep(Duration::from_secs(3)).await;
    let again = world.person("ann").await?;
    let mut fresh = open(&again).await?;
    let said = history(&mut fresh).await?;
    assert!(!said.contains("what ann said"), "{said}");
    assert_eq!(fresh.turn("anew").await?.state, "final");
    assert!(!world.workspace("ann").join("note.md").exists());
    assert!(
        world
            .pid("ann")
            .is_some_and(|new| new != pid && is_alive(new))
    );
    // Files of theirs may be left elsewhere, so nobody else is ever that user.
    assert_eq!(record("ann")["os_user"], os_user);
    assert!(world.users(&delete).await.is_some(), "and gone once more");
    nothing_is_left(world, "ann", pid)
}

/// Neither a process nor a file nor a key is left of somebody.
fn nothing_is_left(world: &World, name: &str, pid: i32) -> Result<()> {
    let user = world.user(name);
    assert!(!is_alive(pid), "{name}");
    let state = world.cells.state(&user);
    assert!(!world.cells.by_state()?.contains_key(&state), "{name}");
    assert!(!world.cell(name).exists(), "{name}");
    assert!(
        !world.dir.path().join("users").join(&user).exists(),
        "{name}"
    );
    for sql in [
        "SELECT count(*) FROM user_openclaw_environments WHERE user_id = ?1",
        "SELECT count(*) FROM virtual_keys WHERE user_id = ?1 AND revoked_at IS NULL",
    ] {
        assert_eq!(count(world, sql, &user), 0, "{name}: {sql}");
    }
    let books = "SELECT count(*) FROM token_usage_logs WHERE user_id = ?1";
    assert_ne!(count(world, books, &user), 0, "the books keep their id");
    Ok(())
}

fn count(world: &World, sql: &str, user: &str) -> i64 {
    let path = world.dir.path().join("gateway.db");
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let counted = store
        .expect("the store")
        .query_row(sql, [user], |row| row.get(0));
    counted.expect("a number")
}

/// Their files are counted.
async fn counted(world: &World, name: &str) {
    let taken = world.users(&["snapshot", &world.user(name)]).await;
    let taken = taken.unwrap_or_default();
    let mut snapshots = taken["snapshots"].as_array().into_iter().flatten();
    let files = snapshots.find(|snapshot| snapshot["type"] == "workspace_files");
    let files = files.map(|snapshot| &snapshot["data"]["workspace"]["files"]);
    assert!(
        files.is_some_and(|files| files.as_u64() > Some(1)),
        "{taken}"
    );
}

/// An archive has what is somebody's, and nothing of another or of their cell's secrets.
async fn exported(world: &World, name: &str, other: &str) -> Result<()> {
    let (user, archive) = (
        world.user(name),
        world.dir.path().join(format!("{name}.tar")),
    );
    let output = archive.to_str().expect("a path");
    let exported = world.users(&["export", &user, "--output", output]).await;
    assert!(exported.is_some(), "{name}");
    let tar = Command::new("tar").arg("-xOf").arg(&archive).output().await;
    let bytes = tar.expect("tar").stdout;
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        text.contains(&user) && text.contains("\"instance\": \"cell."),
        "{name}"
    );
    let list = Command::new("tar").arg("-tf").arg(&archive).output().await;
    let list = list.expect("tar").stdout;
    let list = String::from_utf8_lossy(&list);
    for member in [
        "workspace/note.md",
        "about.json",
        "usage/records-000001.jsonl",
    ] {
        assert!(list.lines().any(|line| line == member), "{member}: {list}");
    }
    assert!(!text.contains(&world.user(other)), "{name}");
    let password = world.cells.record(&user)["password"].clone();
    let password = password.as_str().filter(|password| !password.is_empty());
    for secret in ["ocg-vk-", "sk-test"].into_iter().chain(password) {
        assert!(!text.contains(secret), "{name}: {secret}");
    }
    Ok(())
}
