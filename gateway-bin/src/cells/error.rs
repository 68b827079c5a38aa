use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;
use tower_workspace::NameError;

use crate::config::OsUsers;
use crate::store::StoreError;

/// Why there can be no cells.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CellsError {
    /// Their directory cannot be used.
    #[error("cells.dir {}: {source}", path.display())]
    Dir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The gateway may not start processes as other users.
    #[error(
        "cells.os_users: only root can start cells as users of their own; run the gateway as root, with {missing}, or say \
         `trust_each_other = true` in their place"
    )]
    Unprivileged {
        /// What of root's rights is not there.
        missing: String,
    },
    /// Cells could not get to something that they need.
    #[error(
        "{key}: {} is not open to the users that cells run as; `chmod o+{right} {}` changes it",
        path.display(), path.display()
    )]
    OutOfReach {
        /// What was configured.
        key: &'static str,
        /// What is in the way.
        path: PathBuf,
        /// What others may not do with it.
        right: &'static str,
    },
    /// There is no such program.
    #[error("cells.command: there is no program `{}`; install OpenClaw, or name it by its path", .0.display())]
    NoCommand(PathBuf),
    /// Another gateway of the same store starts cells.
    #[error("cells: another gateway with the same database starts cells; somebody would have two")]
    Elsewhere,
    /// The store does not say whether another does.
    #[error("cells: the store does not answer: {0}")]
    Store(#[source] Box<StoreError>),
    /// Which processes there are cannot be seen.
    #[error("cells: processes cannot be looked at: {0}")]
    Processes(#[source] io::Error),
}

/// Why somebody cannot use their cell now, in a sentence for them.
#[derive(Debug, Error)]
#[error("{}", self.sentence())]
#[non_exhaustive]
pub enum CellError {
    /// The user id cannot name a directory.
    Name(#[from] NameError),
    /// It is being started.
    Starting {
        /// When to ask again.
        retry_after: Duration,
    },
    /// As many run as may, and all of them are used.
    Full {
        /// When to ask again.
        retry_after: Duration,
    },
    /// Too many wait for a start.
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// It has failed. What it said is in the log and in the list of instances.
    Failing {
        /// How often one after another, if that is often.
        failures: Option<u32>,
        /// When to ask again.
        retry_after: Duration,
    },
}

// === impl CellError ===

impl CellError {
    /// When to ask again; `None`: it will not be otherwise.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Name(_) => None,
            Self::Starting { retry_after }
            | Self::Full { retry_after }
            | Self::Busy { retry_after }
            | Self::Failing { retry_after, .. } => Some(*retry_after),
        }
    }

    /// What whoever comes is told.
    #[must_use]
    pub const fn sentence(&self) -> &'static str {
        match self {
            Self::Name(_) => "Your user id can have no OpenClaw of its own here.",
            Self::Starting { .. } => "Your OpenClaw is starting; this takes about half a minute.",
            Self::Full { .. } => {
                "As many people are at work as there is room for; please try again in some minutes."
            }
            Self::Busy { .. } => "Many people are coming at once; please try again in a minute.",
            Self::Failing { failures: None, .. } => {
                "Your OpenClaw has ended and is started again in a moment."
            }
            Self::Failing { .. } => {
                "Your OpenClaw fails again and again; please tell whoever runs this service."
            }
        }
    }
}

/// Why a cell was not started, or did not stay.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("the store does not answer: {0}")]
    Store(#[from] StoreError),
    #[error("all of cells.os_users {0} have been given to somebody; name more")]
    NoOsUser(OsUsers),
    #[error(
        "it has run as user {os_user} until now, who is not among cells.os_users {os_users}; name a range with that number"
    )]
    OtherOsUser { os_user: u32, os_users: OsUsers },
    #[error("{what}: {source}")]
    Files {
        what: &'static str,
        source: io::Error,
    },
    #[error("`{}` cannot be started: {source}", command.display())]
    Command { command: PathBuf, source: io::Error },
    #[error("{}", ended(*.how, .said.as_deref()))]
    Ended {
        how: Option<ExitStatus>,
        said: Option<String>,
    },
    #[error("it is not ready after {} s", .0.as_secs())]
    Late(Duration),
    #[error("it does not answer any more")]
    Hangs,
    #[error("something else listens on port {0}")]
    Stranger(u16),
    #[error("it cannot be used: {0}")]
    Unusable(String),
}

// === impl Failure ===

impl Failure {
    /// The same without what the process said: what people do stands in its output, once it runs.
    pub(super) fn without_words(self) -> Self {
        match self {
            Self::Ended { how, .. } => Self::Ended { how, said: None },
            other => other,
        }
    }
}

fn ended(how: Option<ExitStatus>, said: Option<&str>) -> String {
    let mut text = match how {
        Some(status) => format!("it has ended ({status})"),
        None => "it has ended".to_owned(),
    };
    // Nobody but the kernel ends a process by this signal that we do not end ourselves.
    let is_killed =
        how.is_some_and(|status| std::os::unix::process::ExitStatusExt::signal(&status) == Some(9));
    if is_killed {
        text.push_str(", by somebody or for want of memory");
    }
    if let Some(said) = said {
        text = format!("{text}; it said last: {said}");
    }
    text
}

/// What a process said, without what must not be told: its password, and keys.
pub(super) fn redacted(line: &str, password: &str) -> String {
    const LONGEST: usize = 300;

    let mut line = line.to_owned();
    if !password.is_empty() {
        line = line.replace(password, "…");
    }
    let words = line.split(' ').map(|word| {
        let is_key = ["ocg-", "sk-"].iter().any(|mark| word.contains(mark));
        if is_key { "…" } else { word }
    });
    let words = words.collect::<Vec<_>>().join(" ");
    let plain = words.chars().filter(|c| !c.is_control());
    plain.take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_said_is_told_without_secrets() {
        let said = "password hunter2: bad key=sk-canary\x1b[0m or \"ocg-vk-canary\" ".to_owned();
        let told = redacted(&(said + &"x".repeat(1_000)), "hunter2");
        assert!(told.starts_with("password …: bad … or … xxx"), "{told}");
        assert_eq!(told.chars().count(), 300);
    }
}
