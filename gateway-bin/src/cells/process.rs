//! A process, which no other is taken for: numbers are given again.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// How often a process that is not our child is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A process by its number and by when it was started.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct ProcessId {
    pub(super) pid: i32,
    /// In clock ticks since the system was started.
    started: u64,
}

/// What the kernel says of a process.
struct Stat {
    is_over: bool,
    group: i32,
    started: u64,
}

// === impl ProcessId ===

impl ProcessId {
    /// The process that has this number now.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let started = Stat::read(pid).filter(|stat| !stat.is_over)?.started;
        Some(Self { pid, started })
    }

    /// Whether it still runs.
    pub(super) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// The process group that it is in, as long as it runs.
    pub(super) fn group(self) -> Option<i32> {
        let stat = Stat::read(self.pid).filter(|stat| !stat.is_over)?;
        (stat.started == self.started).then_some(stat.group)
    }

    /// Sends it a signal; `false`: it has ended. Whatever has its number by then gets none.
    pub(super) fn signal(self, signal: Signal) -> io::Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(false);
        };
        let sent = pidfd_open(pid, PidfdFlags::empty()).and_then(|process| {
            // What was opened stays what it was, so that it can be looked at now.
            match self.is_alive() {
                true => pidfd_send_signal(&process, signal),
                false => Err(Errno::SRCH),
            }
        });
        match sent {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until it has ended.
    pub(super) async fn ended(self) {
        while self.is_alive() {
            sleep(LOOK).await;
        }
    }
}

// === impl Stat ===

impl Stat {
    /// See proc_pid_stat(5).
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name of the program stands in parentheses, and may have any in it.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // The first one here is the third of all.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            is_over: matches!(field(3)?, "Z" | "X" | "x"),
            group: field(5)?.parse().ok()?,
            started: field(22)?.parse().ok()?,
        })
    }
}

/// What tells one run of the system from others: after a restart of it, no process is what it was.
pub(super) fn boot() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_programs_name_may_look_like_the_rest() {
        let stat = "7 (a) Z 1) S 1 42 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1 1";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!(
            (stat.is_over, stat.group, stat.started),
            (false, 42, 123_456)
        );
        assert!(Stat::parse("7 (a) S 1").is_none());
    }

    #[tokio::test]
    async fn a_process_that_has_the_number_of_another_gets_no_signal() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let process = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.is_alive() && process.group().is_some());
        let earlier = ProcessId {
            started: process.started - 1,
            ..process
        };
        assert!(!earlier.is_alive() && earlier.group().is_none());
        assert!(!earlier.signal(Signal::KILL).unwrap());
        earlier.ended().await;
        assert!(child.try_wait().unwrap().is_none(), "it runs");
        assert!(
            timeout(Duration::from_millis(50), process.ended())
                .await
                .is_err()
        );

        assert!(process.signal(Signal::TERM).unwrap());
        timeout(Duration::from_secs(10), process.ended())
            .await
            .unwrap();
        assert!(!process.is_alive(), "also as long as nobody waits for it");
        child.wait().unwrap();
        assert!(!process.signal(Signal::KILL).unwrap());
    }
}
