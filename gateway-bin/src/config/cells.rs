use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::{ConfigError, Instance, InstanceAuth, InstanceMode, Metering, Secret, duration};

/// `[cells]`: an OpenClaw of their own for everybody who has no other, started by the gateway when they come.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Cells {
    /// The program, by its path or by a name that `PATH` finds.
    #[serde(default = "default_command")]
    pub command: PathBuf,
    /// Directory with a directory for each cell; default: beside the SQLite file, with the extension `cells`.
    pub dir: Option<PathBuf>,
    /// After how long a cell is stopped that nobody uses, like `"30m"`.
    #[serde(
        default = "default_idle_after",
        deserialize_with = "duration::deserialize"
    )]
    pub idle_after: Duration,
    /// How many may run at the same time; each takes about 1 GB of memory.
    #[serde(default = "default_max")]
    pub max: u32,
    /// Operating-system users that cells run as, each as one of their own, like `"700000-709999"`.
    pub os_users: Option<OsUsers>,
    /// Whether all cells may run as the gateway's own user, where each can read what the others have.
    #[serde(default)]
    pub trust_each_other: bool,
    /// A file with what each `openclaw.json` has beside what the gateway puts into it.
    pub config: Option<PathBuf>,
}

/// Numbers of operating-system users that nobody else has, from the first to the last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OsUsers {
    first: u32,
    last: u32,
}

/// Below are the users of services, at most places.
const FIRST: u32 = 1_000;

/// `nobody` of most systems; the kernel shows it for who has no number.
const NOBODY: u32 = 65_534;

// === impl Cells ===

impl Cells {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.command.as_os_str().is_empty() {
            return Err(ConfigError::invalid(
                "cells.command",
                "is empty; name the program, like \"openclaw\"",
            ));
        }
        if self.max == 0 {
            return Err(ConfigError::invalid(
                "cells.max",
                "is 0, so that nobody could have a cell; remove [cells]",
            ));
        }
        match (self.os_users, self.trust_each_other) {
            (None, true) => {}
            (None, false) => {
                return Err(ConfigError::invalid(
                    "cells.os_users",
                    "is missing: as one user of the system, everybody's agent can read what the others have; name numbers \
                     that no user has, like \"700000-709999\", or say `trust_each_other = true` if that may be",
                ));
            }
            (Some(_), true) => {
                return Err(ConfigError::invalid(
                    "cells.trust_each_other",
                    "stands beside `os_users`; keep one of the two",
                ));
            }
            (Some(users), false) => users.check_unused()?,
        }
        self.template().map(drop)
    }

    /// What `cells.config` says, read now; an empty object without it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`]: it cannot be read, or is not a JSON object.
    pub fn template(&self) -> Result<serde_json::Value, ConfigError> {
        let Some(path) = &self.config else {
            return Ok(serde_json::json!({}));
        };
        let invalid = |problem: String| {
            ConfigError::invalid("cells.config", format!("{}: {problem}", path.display()))
        };
        let text = fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
        // What it says is not shown: there may be keys in it.
        let template: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            invalid(format!("is not JSON, at line {line}, column {column}"))
        })?;
        match template.is_object() {
            true => Ok(template),
            false => Err(invalid("is not a JSON object".to_owned())),
        }
    }
}

// === impl Instance ===

impl Instance {
    /// Somebody's cell, which listens on a port of this host and knows one password.
    #[must_use]
    pub fn spawned(name: &str, user_id: &str, port: u16, password: Secret) -> Self {
        Self {
            name: name.to_owned(),
            url: format!("http://127.0.0.1:{port}"),
            mode: InstanceMode::Cell,
            user: Some(user_id.to_owned()),
            capacity: 1,
            workspace_root: None,
            auth: InstanceAuth::Password {
                password: Some(password),
                password_file: None,
            },
            origin: super::default_origin(),
            extended_chat_params: false,
            sandbox_user: None,
            metering: Metering::Egress,
        }
    }
}

// === impl OsUsers ===

impl OsUsers {
    /// All of them.
    #[must_use]
    pub const fn range(self) -> RangeInclusive<u32> {
        self.first..=self.last
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn contains(self, user: u32) -> bool {
        self.range().contains(&user)
    }

    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then(|| text.parse::<u32>().ok()).flatten()
        };
        let users = Self {
            first: number(first.trim())?,
            last: number(last.trim())?,
        };
        let is_usable = users.first >= FIRST
            && users.first <= users.last
            && users.last < u32::MAX
            && !users.contains(NOBODY);
        is_usable.then_some(users)
    }

    /// Whatever a user of the system has must not be a cell's, and its processes are not to be ended.
    fn check_unused(self) -> Result<(), ConfigError> {
        let read = |file| fs::read(file).unwrap_or_default();
        for file in ["/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"] {
            let text = read(file);
            let text = String::from_utf8_lossy(&text);
            let is_ranges = file.starts_with("/etc/sub");
            let mut lines = text.lines();
            if let Some(name) = lines.find_map(|line| self.taken_by(line, is_ranges)) {
                return Err(ConfigError::invalid(
                    "cells.os_users",
                    format!("`{self}` has numbers in it that are `{name}`'s by {file}"),
                ));
            }
        }
        Ok(())
    }

    /// Whose line of such a file it is, if it is about one of these. Numbers of a user and their group stand behind a
    /// password there; in files of ranges, the first one and how many.
    fn taken_by(self, line: &str, is_ranges: bool) -> Option<&str> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let mut number = || fields.next()?.parse::<u32>().ok();
        let is_taken = match (is_ranges, number(), number(), number()) {
            (true, Some(first), Some(count @ 1..), _) => {
                let last = first.saturating_add(count - 1);
                first <= self.last && self.first <= last
            }
            (true, ..) => false,
            (false, _, user, group) => [user, group]
                .into_iter()
                .flatten()
                .any(|number| self.contains(number)),
        };
        is_taken.then_some(name)
    }
}

impl fmt::Display for OsUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl<'de> Deserialize<'de> for OsUsers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "must be the first and the last of a range of numbers from {FIRST} on, without {NOBODY}, like \
                 \"700000-709999\""
            ))
        })
    }
}

fn default_command() -> PathBuf {
    PathBuf::from("openclaw")
}

const fn default_idle_after() -> Duration {
    Duration::from_secs(30 * 60)
}

const fn default_max() -> u32 {
    10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operating_system_users_are_a_range_that_can_be_used() {
        let users = OsUsers::parse("700000-709999").unwrap();
        assert!(users.contains(700_000) && users.contains(709_999));
        assert!(!users.contains(699_999) && !users.contains(710_000));
        assert_eq!(users.to_string(), "700000-709999");
        for text in [
            "",
            "700000",
            "709999-700000",
            "-1-5",
            "0-10",
            "999-2000",
            "60000-70000",
            "700000-4294967295",
            "+700000-709999",
            "a-b",
        ] {
            assert_eq!(OsUsers::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_that_somebody_has_are_not_for_cells() {
        let users = OsUsers::parse("700000-709999").unwrap();
        for (line, is_ranges, taken) in [
            ("alice:x:700000:100:Alice:/home/alice:/bin/sh", false, true),
            ("alice:x:100:709999::/:/bin/sh", false, true),
            ("alice:x:100:100:700001:/:/bin/sh", false, false),
            ("team:x:700001:alice", false, true),
            ("alice:600000:100000", true, false),
            ("alice:600000:100001", true, true),
            ("alice:709999:65536", true, true),
            ("alice:710000:65536", true, false),
            ("alice:700000:0", true, false),
            ("alice:100000:4294967295", true, true),
            ("", false, false),
        ] {
            assert_eq!(users.taken_by(line, is_ranges).is_some(), taken, "{line}");
        }
    }

    #[test]
    fn cells_need_users_of_their_own_or_that_people_trust_each_other() {
        let problem = |text: &str| {
            let cells: Cells = toml::from_str(text).unwrap();
            cells.check().err().map(|error| error.to_string())
        };
        assert_eq!(problem("trust_each_other = true"), None);
        assert_eq!(problem("os_users = \"700000-709999\""), None);
        for (text, said) in [
            ("", "`cells.os_users`: is missing"),
            ("max = 0\ntrust_each_other = true", "`cells.max`"),
            ("command = \"\"\ntrust_each_other = true", "`cells.command`"),
            (
                "os_users = \"700000-709999\"\ntrust_each_other = true",
                "keep one of the two",
            ),
            (
                "trust_each_other = true\nconfig = \"/none\"",
                "`cells.config`: /none",
            ),
        ] {
            let problem = problem(text).unwrap_or_default();
            assert!(problem.contains(said), "{text}: {problem}");
        }
        assert!(toml::from_str::<Cells>("users = \"1-2\"").is_err());
    }

    #[test]
    fn a_template_is_an_object_and_its_content_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("openclaw.json");
        let text = format!("trust_each_other = true\nconfig = {path:?}");
        let cells: Cells = toml::from_str(&text).unwrap();
        for wrong in ["[\"sk-canary\"]", "{\"a\": sk-canary}"] {
            fs::write(&path, wrong).unwrap();
            let error = cells.check().unwrap_err().to_string();
            assert!(error.contains("openclaw.json") && !error.contains("canary"));
        }
        fs::write(&path, "{\"a\": 1}").unwrap();
        assert_eq!(cells.template().unwrap(), serde_json::json!({"a": 1}));
    }
}
