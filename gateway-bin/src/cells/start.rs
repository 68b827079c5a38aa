//! How a cell comes to run.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::cell::{Cell, Running};
use super::directory::CellDir;
use super::error::{Failure, redacted};
use super::members::{Mark, kill};
use super::openclaw::{Launch, configuration};
use super::ports::Port;
use super::probe::listens;
use super::process::{ProcessId, boot};
use super::record::Record;
use super::registry::Shared;
use crate::config::{Instance, Secret};
use crate::dev;

/// How often one that starts is asked whether it is ready.
const ASK: Duration = Duration::from_millis(250);

/// How long it may take to hear how one has ended that is not there any more.
const END: Duration = Duration::from_secs(5);

/// A cell's process, which may not be ready yet.
pub(super) struct Process {
    pub(super) record: Record,
    pub(super) id: ProcessId,
    /// Its port, which no other cell has as long as it is there.
    pub(super) port: Port,
    end: End,
    /// How long its output was before it.
    output: u64,
}

/// How we hear of its end.
enum End {
    /// From the system, which also says how.
    OfChild(JoinHandle<io::Result<ExitStatus>>),
    /// Another gateway has started it.
    OfOther,
}

// === impl Process ===

impl Process {
    /// A process that another gateway has started.
    pub(super) fn found(record: Record, id: ProcessId, port: Port, dir: &CellDir) -> Self {
        let output = fs::metadata(dir.output()).map_or(0, |is| is.len());
        Self {
            record,
            id,
            port,
            end: End::OfOther,
            output,
        }
    }

    /// Waits until it has ended, and says why it may have.
    pub(super) async fn ended(&mut self, dir: &CellDir) -> Failure {
        let how = match &mut self.end {
            End::OfChild(waiting) => waiting.await.ok().and_then(Result::ok),
            End::OfOther => {
                self.id.ended().await;
                None
            }
        };
        let said = dir.last_line(self.output);
        let said = said.map(|line| redacted(&line, &self.record.password));
        Failure::Ended { how, said }
    }

    pub(super) fn mark(&self, dir: &CellDir) -> Mark {
        Mark {
            state: dir.state(),
            os_user: self.record.os_user,
            leader: Some(self.id),
        }
    }

    /// What the rest of the gateway knows it as.
    pub(super) fn running(&self, cell: &Cell) -> Running {
        let password = Secret::new(self.record.password.as_str());
        let port = self.port.number();
        Running {
            instance: Instance::spawned(&cell.name, &cell.user_id, port, password),
            process: self.id,
            os_user: self.record.os_user,
            since: Instant::now(),
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Starts a cell's process. Whatever was left of an earlier one is ended before.
    pub(super) async fn start(&self, cell: &Arc<Cell>) -> Result<Process, Failure> {
        let os_user = self.os_user(cell).await?;
        let mark = Mark {
            state: cell.dir.state(),
            os_user,
            leader: None,
        };
        mark.end().await.map_err(|source| Failure::Files {
            what: "what is left of it cannot be ended",
            source,
        })?;
        let (ports, settings) = (self.ports.clone(), self.settings.clone());
        let cell = Arc::clone(cell);
        // It starts a task that waits for the child.
        let runtime = Handle::current();
        let launched = spawn_blocking(move || {
            let _runtime = runtime.enter();
            let port = ports
                .take(Record::find(&cell.dir).map(|earlier| earlier.port))
                .map_err(files("no port"))?;
            launch(
                &cell,
                os_user,
                port,
                |port| {
                    let (template, origin) = (&settings.template, crate::config::ORIGIN);
                    let existing = existing_configuration(&cell);
                    configuration(template, existing.as_ref(), &cell.dir, port, origin).to_string()
                },
                &settings.command,
            )
        });
        let launched = launched.await;
        launched.unwrap_or_else(|stopped| Err(files("stopped")(io::Error::other(stopped))))
    }

    /// Waits until a process is ready and it is really what listens on its port.
    pub(super) async fn ready(&self, cell: &Cell, process: &mut Process) -> Result<(), Failure> {
        let (port, mark) = (process.port.number(), process.mark(&cell.dir));
        let answers = async {
            loop {
                if self.probe.is_ready(port).await == Some(true) {
                    let mark = mark.clone();
                    let is_it = spawn_blocking(move || {
                        mark.members().is_ok_and(|members| listens(&members, port))
                    });
                    return match is_it.await {
                        Ok(true) => Ok(()),
                        _ => Err(Failure::Stranger(port)),
                    };
                }
                sleep(ASK).await;
            }
        };
        let limit = self.limits.ready;
        tokio::select! {
            ended = process.ended(&cell.dir) => Err(ended),
            answer = timeout(limit, answers) => answer.unwrap_or(Err(Failure::Late(limit))),
        }
    }

    /// The operating-system user that a cell runs as, or ran as, where it has one of its own.
    pub(super) async fn find_os_user(&self, cell: &Cell) -> Result<Option<u32>, Failure> {
        match self.settings.os_users {
            Some(_) => Ok(self.store.find_os_user(&cell.user_id).await?),
            None => Ok(None),
        }
    }

    /// The operating-system user that a cell runs as, where it has one of its own.
    async fn os_user(&self, cell: &Cell) -> Result<Option<u32>, Failure> {
        let Some(os_users) = self.settings.os_users else {
            return Ok(None);
        };
        let os_user = self.store.os_user(&cell.user_id, os_users.range()).await?;
        match os_user {
            Some(os_user) if os_users.contains(os_user) => Ok(Some(os_user)),
            // By now it may be somebody else's.
            Some(os_user) => Err(Failure::OtherOsUser { os_user, os_users }),
            None => Err(Failure::NoOsUser(os_users)),
        }
    }
}

fn files(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |source| Failure::Files { what, source }
}

fn existing_configuration(cell: &Cell) -> Option<serde_json::Value> {
    let found = cell.dir.find_config().and_then(|text| {
        let parsed = text.map(|text| serde_json::from_str::<serde_json::Value>(&text));
        Ok(parsed.transpose()?.filter(serde_json::Value::is_object))
    });
    found.unwrap_or_else(|error| {
        let cell = &*cell.name;
        warn!(cell, %error, "a cell's openclaw.json cannot be read; it gets a new one");
        None
    })
}

fn launch(
    cell: &Cell,
    os_user: Option<u32>,
    port: Port,
    configuration: impl FnOnce(u16) -> String,
    command: &std::path::Path,
) -> Result<Process, Failure> {
    let dir = &cell.dir;
    dir.make(os_user).map_err(files("its directory"))?;
    let configuration = configuration(port.number());
    dir.put_config(&configuration, os_user)
        .map_err(files("its openclaw.json"))?;
    let mut record = Record {
        user_id: cell.user_id.to_string(),
        os_user,
        port: port.number(),
        password: dev::secret().map_err(files("its password"))?,
        boot: boot().map_err(files("the system's boot id"))?,
        process: None,
    };
    // Before there is a process: whatever happens, it can be found.
    record.put(dir).map_err(files("its record"))?;
    let log = dir.open_output().map_err(files("its log"))?;
    let output = log.metadata().map_or(0, |is| is.len());
    let launch = Launch {
        command,
        dir,
        os_user,
        port: port.number(),
        password: &record.password,
    };
    let mut child = launch.spawn(log).map_err(|source| Failure::Command {
        command: command.to_owned(),
        source,
    })?;
    let id = child.id().and_then(|pid| ProcessId::of(pid.cast_signed()));
    let waiting = tokio::spawn(async move { child.wait().await });
    let Some(id) = id else {
        // It has ended already.
        let how = Handle::current().block_on(timeout(END, waiting));
        let how = how.ok().and_then(Result::ok).and_then(Result::ok);
        let said = dir.last_line(output);
        let said = said.map(|line| redacted(&line, &record.password));
        return Err(Failure::Ended { how, said });
    };
    record.process = Some(id);
    if let Err(source) = record.put(dir) {
        let _ = kill(BTreeSet::from([id]));
        return Err(files("its record")(source));
    }
    // Where memory runs out, one of them is to go, and not the gateway.
    let _ = fs::write(format!("/proc/{}/oom_score_adj", id.pid), "500");
    info!(
        cell = &*cell.name,
        pid = id.pid,
        port = port.number(),
        os_user,
        "cell starts"
    );
    Ok(Process {
        record,
        id,
        port,
        end: End::OfChild(waiting),
        output,
    })
}
