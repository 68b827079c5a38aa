//! A gateway of whose cells a test is, and the people who come to it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use gateway_tests::{
    cells::Cells,
    error::{Error, Result},
    gateway::{Config, Gateway, command},
    kit::Kit,
    person::{Person, Socket},
    secret,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How long a cell, or several at once, may take until it can be used.
pub(crate) const PATIENCE: Duration = Duration::from_secs(360);

/// A gateway without any instance but the cells that it starts.
pub(crate) struct World {
    pub(crate) kit: Kit,
    pub(crate) gateway: Gateway,
    pub(crate) cells: Cells,
    /// Names of accounts end with it.
    mark: String,
    pub(crate) dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start(lines: &str) -> Result<Self> {
        let kit = Kit::from_env()?;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cells = Cells::new(&kit.install, dir.path())?;
        let mut config = Config::new(&kit, dir.path())?;
        let (before, rest) = config.text.split_once("[[instance]]").expect("an instance");
        let (_, after) = rest.split_once("[[provider]]").expect("a provider");
        config.text = format!("{before}[[provider]]{after}{}", cells.section(lines));
        // Whoever works through many rounds needs more than others in a day.
        for limit in ["tokens_per_day = 2_000", "calls_per_day = 2"] {
            config.text = config.text.replace(limit, &format!("{limit}_000"));
        }
        let gateway = Gateway::start(config, dir.path()).await?;
        Ok(Self {
            kit,
            gateway,
            cells,
            mark: secret::mark()?,
            dir,
        })
    }

    pub(crate) fn user(&self, name: &str) -> String {
        format!("{name}-{}", self.mark)
    }

    pub(crate) async fn person(&self, name: &str) -> Result<Person> {
        Person::sign_in(&self.kit, &self.user(name), &self.gateway).await
    }

    pub(crate) fn workspace(&self, name: &str) -> PathBuf {
        let users = self.dir.path().join("users");
        users.join(self.user(name)).join("workspace")
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds()? {
            if Instant::now() > deadline {
                return Err(Error::Late(PATIENCE, what.to_owned()));
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// What `gateway users` answers, if it does what it says.
    pub(crate) async fn users(&self, arguments: &[&str]) -> Option<Value> {
        let arguments = [&["users"], arguments, &["--json"]].concat();
        let said = command(self.dir.path(), &arguments).await;
        let said = said.expect("it runs").json();
        said.inspect_err(|error| println!("{error}")).ok()
    }

    /// Where the gateway keeps what there is of somebody's cell.
    pub(crate) fn cell(&self, name: &str) -> PathBuf {
        let state = self.cells.state(&self.user(name));
        state.parent().map(Path::to_owned).expect("a directory")
    }

    pub(crate) fn pid(&self, name: &str) -> Option<i32> {
        self.cells.pid(&self.user(name))
    }

    pub(crate) async fn instance(&self, name: &str) -> Result<Value> {
        let admin = Person::sign_in(&self.kit, "admin", &self.gateway).await?;
        let listed = admin.get("/api/admin/instances").await?;
        let instances = listed["instances"].as_array().cloned().unwrap_or_default();
        let mut instances = instances.into_iter();
        let found = instances.find(|instance| instance["user"] == *self.user(name));
        Ok(found.unwrap_or_default())
    }
}

/// Comes again and again, as clients do, until the cell is there.
pub(crate) async fn open(person: &Person) -> Result<Socket> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match person.open().await {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(300)).await,
            opened => return opened,
        }
    }
}

pub(crate) async fn history(socket: &mut Socket) -> Result<String> {
    let history = socket
        .ws
        .call("chat.history", json!({"sessionKey": "main"}))
        .await?;
    Ok(history.to_string())
}

pub(crate) fn model_calls(records: &Value) -> Vec<&Value> {
    let records = records["records"].as_array().into_iter().flatten();
    records
        .filter(|record| record["operation"] == "model_call")
        .collect()
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process");
    kill_process(pid, signal).expect("it runs");
}

pub(crate) fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.starts_with(" Z"))
    })
}
