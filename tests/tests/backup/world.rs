//! People at a gateway, what they have, and what becomes of its files.

use std::{env, fs, path::Path};

use ::http::StatusCode;
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway, command},
    http,
    kit::Kit,
    ledger::Recorded,
    person::Person,
    secret,
};
use serde_json::Value;
use tokio::{process::Command, sync::watch};

/// Runs a program to its end, and answers what it printed.
pub(crate) async fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.env_clear().args(arguments);
    command.envs(env::vars_os().filter(|(name, _)| name == "PATH"));
    let output = command.output().await.expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `gateway …` with the configuration of the gateway in `dir`.
pub(crate) async fn gateway(dir: &Path, arguments: &[&str]) -> String {
    let said = command(dir, arguments).await.expect("it runs");
    said.done().expect("it does it")
}

/// What somebody has: their limits with what is used, and what was recorded.
#[derive(Debug, PartialEq)]
pub(crate) struct Has {
    pub(crate) limits: Vec<(String, String, Value, Value)>,
    pub(crate) usage: Value,
}

pub(crate) async fn has(person: &Person) -> Result<Has> {
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
pub(crate) fn calls(has: &Has) -> u64 {
    let mut limits = has.limits.iter();
    let limit = limits.find(|(dimension, window, ..)| dimension == "calls" && window == "day");
    limit
        .and_then(|limit| limit.3.as_u64())
        .expect("a limit of calls")
}

/// How many runs and model calls there are, each by its id once.
pub(crate) fn counted(records: &[Recorded]) -> (u64, usize) {
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
pub(crate) struct World {
    pub(crate) kit: Kit,
    pub(crate) gateway: Gateway,
    pub(crate) alice: Person,
    /// Hers, made by herself.
    pub(crate) token: String,
    pub(crate) names: [String; 2],
}

impl World {
    pub(crate) async fn start(kit: Kit, config: Config, dir: &Path) -> Result<Self> {
        let mark = secret::mark()?;
        let names = ["alice", "bob"].map(|name| format!("{name}-{mark}"));
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
    pub(crate) async fn begin_traffic(
        &self,
    ) -> Result<(watch::Sender<bool>, tokio::task::JoinHandle<u64>)> {
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

    /// What is not in the backup: a turn of hers, and another limit.
    pub(crate) async fn go_on(&self, dir: &Path) -> Result<()> {
        let mut socket = self.alice.open().await?;
        assert_eq!(socket.turn("lost").await?.state, "final");
        gateway(dir, &["quotas", "set", &self.names[0], "calls/day=7"]).await;
        Ok(())
    }

    /// What there is of her again, with her token or without, and that she goes on from there.
    pub(crate) async fn is_as(&self, before: &Has, with_token: bool, dir: &Path) -> Result<()> {
        let [alice, bob] = &self.names;
        assert_eq!(has(&self.alice).await?, *before);
        let by_token = http::get(&self.gateway.url("/api/user/info"), Some(&self.token)).await?;
        if with_token {
            let by_token = by_token.expect_status(StatusCode::OK)?.json()?;
            assert_eq!(by_token["user_id"], **alice, "{by_token}");
        } else {
            by_token.expect_status(StatusCode::UNAUTHORIZED)?;
        }
        let notes = dir.join("users").join(alice).join("workspace/notes.md");
        assert_eq!(fs::read_to_string(notes).expect("her file"), "hers");
        let people = gateway(dir, &["users", "list"]).await;
        for name in [alice, bob] {
            assert!(people.contains(name.as_str()), "{people}");
        }

        let mut socket = self.alice.open().await?;
        assert_eq!(socket.turn("again").await?.state, "final");
        Ok(())
    }
}

/// Everything that is in files of the gateway is gone, as is the directory with all workspaces.
pub(crate) fn destroy(dir: &Path) {
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
pub(crate) async fn archive(dir: &Path, to: &Path) {
    let (dir, to) = (dir.display().to_string(), to.display().to_string());
    run(
        "tar",
        &["--numeric-owner", "-C", &dir, "-cpf", &to, "users"],
    )
    .await;
}

pub(crate) async fn unpack(dir: &Path, from: &Path) {
    let (dir, from) = (dir.display().to_string(), from.display().to_string());
    run("tar", &["--numeric-owner", "-C", &dir, "-xpf", &from]).await;
}
