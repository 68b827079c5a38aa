use std::process::ExitCode;

use serde::Serialize;

use crate::cli::MISUSE;
use crate::cli::operate::printable;

/// What came of looking at one thing.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Check {
    pub(super) state: State,
    /// The key of the configuration, or the thing that it names.
    pub(super) about: String,
    /// A sentence; of what is wrong, with what to do.
    pub(super) says: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it must be.
    Ok,
    /// It works, and somebody may not expect how.
    Note,
    /// It does not work.
    Wrong,
}

/// All of it, as data.
#[derive(Debug, Serialize)]
struct Report<'a> {
    state: State,
    checks: &'a [Check],
}

/// Prints what was found, a line each or as JSON, and answers the exit code.
pub(super) fn print(checks: &[Check], json: bool) -> ExitCode {
    let is_wrong = checks.iter().any(|check| check.state == State::Wrong);
    let state = if is_wrong { State::Wrong } else { State::Ok };
    if json {
        // Strings and names only: it cannot fail.
        let report = serde_json::to_string(&Report { state, checks });
        println!("{}", report.unwrap_or_default());
    } else {
        for check in checks {
            println!("{}", check.line());
        }
    }
    match is_wrong {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Prints what is wrong with the file itself, and answers the exit code of that.
pub(super) fn print_invalid(file: &str, error: &str, json: bool) -> ExitCode {
    if json {
        print(&[Check::wrong(file, error)], true);
    } else {
        eprintln!("gateway: {error}");
    }
    ExitCode::from(MISUSE)
}

// === impl Check ===

impl Check {
    pub(super) fn ok(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(State::Ok, about, says)
    }

    pub(super) fn note(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(State::Note, about, says)
    }

    pub(super) fn wrong(about: impl Into<String>, says: impl Into<String>) -> Self {
        Self::new(State::Wrong, about, says)
    }

    fn new(state: State, about: impl Into<String>, says: impl Into<String>) -> Self {
        Self {
            state,
            about: about.into(),
            says: says.into(),
        }
    }

    /// In one line, whatever servers have said.
    fn line(&self) -> String {
        let state = match self.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Wrong => "wrong",
        };
        let text = printable(&format!("{}: {}", self.about, self.says));
        format!("{state:<5}  {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_check_is_one_line() {
        let check = Check::wrong("instance pool-1", "refuses: a\nb\x1b[2J");
        assert_eq!(
            check.line(),
            "wrong  instance pool-1: refuses: a\\nb\\u{1b}[2J"
        );
        assert_eq!(
            serde_json::to_string(&Check::ok("a", "b")).unwrap(),
            r#"{"state":"ok","about":"a","says":"b"}"#
        );
    }
}
