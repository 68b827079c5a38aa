//! A program that a test starts: in a process group of its own, writing into a log file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use http::StatusCode;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    error::{Error, Result},
    http as client,
};

/// How much of a log an error shows.
const LOG_LINES: usize = 30;

/// A running program. Dropping it kills it and everything it started.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints is added to `log`.
    ///
    /// # Errors
    ///
    /// [`Error::File`] for the log, [`Error::Run`] for the program.
    pub fn spawn(name: &'static str, mut command: Command, log: PathBuf) -> Result<Self> {
        let run = |source| Error::Run {
            program: name.to_owned(),
            source,
        };
        let file = |source| Error::File {
            path: log.clone(),
            source,
        };
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(file)?;
        let errors = output.try_clone().map_err(file)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(run)?;
        // The leader of a new group gives the group its id. A child that was not waited for has one.
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or_else(|| Error::unexpected("process", "it has no id"))?;
        Ok(Self {
            name,
            child,
            group,
            log,
        })
    }

    /// Waits until `GET url` answers 200.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] with the end of the log when the program ends or `limit` passes first.
    pub async fn ready(&mut self, url: &str, limit: Duration) -> Result<()> {
        let probe = || async {
            let answer = client::get(url, None).await;
            answer.is_ok_and(|answer| answer.status == StatusCode::OK)
        };
        self.ready_when(limit, probe).await
    }

    /// Waits until `probe` says that the program is ready.
    ///
    /// # Errors
    ///
    /// As [`ready`](Self::ready).
    pub async fn ready_when<F>(
        &mut self,
        limit: Duration,
        probe: impl Fn() -> F + Send,
    ) -> Result<()>
    where
        F: Future<Output = bool> + Send,
    {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited()? {
                return Err(self.not_ready(format!("ended with {status}")));
            }
            if timeout(Duration::from_secs(2), probe()).await == Ok(true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.not_ready(format!("is not ready after {limit:?}")));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the program has done what it is for and ended well.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] with the end of the log when it ends otherwise, or not within `limit`.
    pub async fn succeed(&mut self, limit: Duration) -> Result<()> {
        match timeout(limit, self.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(ExitStatus::success) => Ok(()),
            Ok(status) => Err(self.not_ready(format!("ended with {}", status?))),
            Err(_) => Err(self.not_ready(format!("has not ended after {limit:?}"))),
        }
    }

    /// Asks the program to end, and kills its group when it has not after `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.stop_by(Signal::TERM, limit).await
    }

    /// As [`stop`](Self::stop), for a program that another signal asks to end.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub async fn stop_by(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.signal(signal);
        if let Ok(status) = timeout(limit, self.wait()).await {
            // What the program started and left behind goes too.
            self.signal(Signal::KILL);
            return status;
        }
        self.kill().await
    }

    /// Kills the whole group at once.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.wait().await
    }

    /// Sends a signal to the whole group. One that has ended takes none.
    pub fn signal(&self, signal: Signal) {
        // The only failure is a group without members.
        let _ = kill_process_group(self.group, signal);
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when it cannot be waited for.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        self.child
            .wait()
            .await
            .map_err(|source| self.failed(source))
    }

    /// How the program ended, if it has.
    ///
    /// # Errors
    ///
    /// [`Error::Run`] when the system does not say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(|source| self.failed(source))
    }

    /// The program's process id, which is also its group's.
    #[must_use]
    pub fn id(&self) -> Pid {
        self.group
    }

    /// The file with everything the program printed.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Run {
            program: self.name.to_owned(),
            source,
        }
    }

    fn not_ready(&self, what: String) -> Error {
        Error::NotReady {
            program: self.name.to_owned(),
            what,
            log: tail(&self.log),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once it was waited for, its number may be another's.
        if self.child.id().is_some() {
            self.signal(Signal::KILL);
        }
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(LOG_LINES).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
