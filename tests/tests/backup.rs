//! What a backup brings back: it is taken while people work, everything else is destroyed, and people go on from there.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{env, fs, path::Path};

use ::http::StatusCode;
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    ledger::{Recorded, settled},
    openclaw::OpenClaw,
    person::Person,
    postgres::create_database,
    secret,
};
use serde_json::{Value, json};
use tokio::{process::Command, sync::watch};
use tokio_postgres::NoTls;

/// Runs a program to its end, and answers what it printed.
async fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.env_clear().args(arguments);
    command.envs(env::vars_os().filter(|(name, _)| name == "PATH"));
    let output = command.output().await.expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `gateway …` with the configuration of the gateway in `dir`.
async fn gateway(dir: &Path, arguments: &[&str]) -> String {
    let binary = env::var("GATEWAY_BIN").expect("tests/run says which binary");
    let config = dir.join("gateway.toml").display().to_string();
    let arguments = [arguments, &["--config", &config]].concat();
    run(&binary, &arguments).await
}

/// What somebody has: their limits with what is used, and what was recorded.
#[derive(Debug, PartialEq)]
struct Has {
    limits: Vec<(String, String, Value, Value)>,
    usage: Value,
}

async fn has(person: &Person) -> Result<Has> {
    let quota = person.get("/api/quota").await?;
    let limits = quota["limits"].as_array().expect("limits").iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let limits = limits.map(|limit| {
        let (dimension, window) = (text(&limit["dimension"]), text(&limit["window"]));
        (
            dimension,
            window,
            limit["limit"].clone(),
            limit["used"].clone(),
        )
    });
    Ok(Has {
        limits: limits.collect(),
        usage: person.get("/api/usage").await?["total"].clone(),
    })
}

/// What is used of a limit of calls in a day.
fn calls(has: &Has) -> u64 {
    let mut limits = has.limits.iter();
    let limit = limits.find(|(dimension, window, ..)| dimension == "calls" && window == "day");
    limit
        .and_then(|limit| limit.3.as_u64())
        .expect("a limit of calls")
}

/// How many runs and model calls there are, each by its id once.
fn counted(records: &[Recorded]) -> (u64, usize) {
    let ids: std::collections::BTreeSet<_> = records.iter().map(|record| &record.id).collect();
    assert_eq!(
        ids.len(),
        records.len(),
        "a record is there twice: {records:#?}"
    );
    let runs = records.iter().filter(|record| record.operation == "run");
    let runs = runs.count();
    (runs as u64, records.len() - runs)
}

/// A gateway that somebody works at all the time, while everybody else is looked at.
struct World {
    kit: Kit,
    gateway: Gateway,
    alice: Person,
    /// Hers, made by herself.
    token: String,
    names: [String; 3],
}

impl World {
    async fn start(kit: Kit, config: Config, dir: &Path) -> Result<Self> {
        let mark = secret::mark()?;
        let names = ["alice", "bob", "carol"].map(|name| format!("{name}-{mark}"));
        let running = Gateway::start(config, dir).await?;
        let alice = Person::sign_in(&kit, &names[0], &running).await?;
        let mut socket = alice.open().await?;
        for message in ["first", "second"] {
            assert_eq!(socket.turn(message).await?.state, "final");
        }
        gateway(dir, &["quotas", "set", &names[0], "calls/day=500"]).await;
        let mut browser = Browser::new();
        browser.sign_in_at(&running, &names[0]).await?;
        let keys = running.url("/api/keys");
        let made = browser.fetch(::http::Method::POST, &keys, r#"{"name":"laptop"}"#);
        let made = made.await?.expect_status(StatusCode::CREATED)?.json()?;
        let token = made["token"].as_str().expect("a token").to_owned();
        fs::write(
            dir.join("users").join(&names[0]).join("workspace/notes.md"),
            "hers",
        )
        .expect("a file");
        Ok(Self {
            kit,
            gateway: running,
            alice,
            token,
            names,
        })
    }

    /// Has bob work, from one turn to the next, until he is told to stop; resolves when he has ended one.
    async fn begin_traffic(&self) -> Result<(watch::Sender<bool>, tokio::task::JoinHandle<u64>)> {
        let bob = Person::sign_in(&self.kit, &self.names[1], &self.gateway).await?;
        let mut socket = bob.open().await?;
        assert_eq!(socket.turn("begin").await?.state, "final");
        let (stop, stopped) = watch::channel(false);
        let working = tokio::spawn(async move {
            let mut turns = 1;
            while !*stopped.borrow() {
                // One ends with the gateway.
                match socket.turn("on and on").await {
                    Ok(turn) if turn.state == "final" => turns += 1,
                    _ => return turns,
                }
            }
            turns
        });
        Ok((stop, working))
    }

    /// What is not in the backup: a turn of hers, and somebody new.
    async fn go_on(&self) -> Result<()> {
        let mut socket = self.alice.open().await?;
        assert_eq!(socket.turn("lost").await?.state, "final");
        let carol = Person::sign_in(&self.kit, &self.names[2], &self.gateway).await?;
        assert_eq!(carol.open().await?.turn("lost too").await?.state, "final");
        Ok(())
    }

    /// What there is of her again, and that she and others go on from there.
    async fn is_as(&self, before: &Has, dir: &Path) -> Result<()> {
        let [alice, bob, carol] = &self.names;
        assert_eq!(has(&self.alice).await?, *before);
        let by_token = http::get(&self.gateway.url("/api/user/info"), Some(&self.token)).await?;
        let by_token = by_token.expect_status(StatusCode::OK)?.json()?;
        assert_eq!(by_token["user_id"], **alice, "{by_token}");
        let notes = dir.join("users").join(alice).join("workspace/notes.md");
        assert_eq!(fs::read_to_string(notes).expect("her file"), "hers");
        let people = gateway(dir, &["users", "list"]).await;
        assert!(
            people.contains(&**alice) && people.contains(&**bob),
            "{people}"
        );
        assert!(
            !people.contains(&**carol),
            "who came later is unknown: {people}"
        );

        let mut socket = self.alice.open().await?;
        assert_eq!(socket.turn("again").await?.state, "final");
        let carol = Person::sign_in(&self.kit, carol, &self.gateway).await?;
        assert_eq!(carol.open().await?.turn("new").await?.state, "final");
        Ok(())
    }
}

/// Everything that is in files of the gateway is gone, as is the directory with all workspaces.
fn destroy(dir: &Path) {
    for name in [
        "gateway.db",
        "gateway.db-wal",
        "gateway.db-shm",
        "gateway.db.lock",
    ] {
        let _ = fs::remove_file(dir.join(name));
    }
    fs::remove_dir_all(dir.join("users")).expect("the workspaces");
}

/// Copies the workspaces into an archive, and back.
async fn archive(dir: &Path, to: &Path) {
    let (dir, to) = (dir.display().to_string(), to.display().to_string());
    run(
        "tar",
        &["--numeric-owner", "-C", &dir, "-cpf", &to, "users"],
    )
    .await;
}

async fn unpack(dir: &Path, from: &Path) {
    let (dir, from) = (dir.display().to_string(), from.display().to_string());
    run("tar", &["--numeric-owner", "-C", &dir, "-xpf", &from]).await;
}

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
    world.go_on().await?;
    assert_ne!(has(&world.alice).await?, before);
    let _ = stop.send(true);
    let turns = working.await.expect("a task");
    assert!(turns > 1, "bob has worked all the time");
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
    let him = Person::sign_in(&world.kit, &bob, &world.gateway).await?;
    let mut socket = him.open().await?;
    assert_eq!(socket.turn("still there").await?.state, "final");
    let his = has_settled(dir, &bob).await?;
    let (runs, _) = counted(&his);
    assert!(runs >= 2 && runs <= turns + 2, "{runs} of {turns}");
    assert_eq!(calls(&has(&him).await?), runs, "{his:#?}");
    Ok(())
}

/// His records, once as many of model calls as there are in the file are settled.
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
    world.go_on().await?;
    let _ = stop.send(true);
    let turns = working.await.expect("a task");
    assert!(turns > 1, "bob has worked all the time");
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

#[tokio::test]
async fn an_openclaw_that_was_copied_while_it_was_stopped_has_its_conversations_again() -> Result<()>
{
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let backup = tempfile::tempdir().expect("a temporary directory");
    let (dir, name) = (dir.path(), "openclaw-1");
    let own = dir.join(name);
    let password = secret::random()?;
    let mut openclaw = OpenClaw::start(kit.install.clone(), &own, &password).await?;
    let mut config = Config::new(&kit, dir)?;
    for (shared, own) in [
        (&kit.openclaw, openclaw.url()),
        (&kit.openclaw_password, password),
    ] {
        config.text = config.text.replacen(shared.as_str(), &own, 1);
    }
    let mut running = Gateway::start(config, dir).await?;
    let alice = format!("alice-{}", secret::mark()?);
    let person = Person::sign_in(&kit, &alice, &running).await?;
    let mut socket = person.open().await?;
    assert_eq!(socket.turn("keep this in mind").await?.state, "final");
    settled(dir, &alice, 1).await?;

    // In the order of deploy/BACKUP.md.
    openclaw.stop().await?;
    let (archive, copy) = (
        backup.path().join("openclaw-1.tar").display().to_string(),
        backup.path().join("gateway-1.db").display().to_string(),
    );
    let base = dir.display().to_string();
    run(
        "tar",
        &["--numeric-owner", "-C", &base, "-cpf", &archive, name],
    )
    .await;
    self::archive(dir, &backup.path().join("users.tar")).await;
    gateway(dir, &["backup", "--to", &copy]).await;
    running.kill9().await?;
    destroy(dir);
    fs::remove_dir_all(&own).expect("OpenClaw's directory");

    run("tar", &["--numeric-owner", "-C", &base, "-xpf", &archive]).await;
    unpack(dir, &backup.path().join("users.tar")).await;
    fs::copy(&copy, dir.join("gateway.db")).expect("a copy");
    openclaw.start_again().await?;
    running.start_again().await?;
    let mut socket = person.open().await?;
    let history = socket
        .ws
        .call("chat.history", json!({"sessionKey": "main"}))
        .await?;
    assert!(
        history.to_string().contains("keep this in mind"),
        "{history}"
    );
    assert_eq!(socket.turn("and this").await?.state, "final");
    assert_eq!(counted(&settled(dir, &alice, 2).await?), (2, 2));
    // It ends with 1 where they differ.
    gateway(dir, &["usage", "reconcile", &alice]).await;
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
