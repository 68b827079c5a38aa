//! Where an instance runs the tools of people who require a sandbox: at the end of SSH, each as an operating-system user of
//! their own.
//!
//! Everybody as one user there could read what the others have: `exec` knows no wall but that of the system.

use std::fmt;

use serde_json::{Value, json};

use crate::config::Instance;

/// What stands for the slot's name in `sandbox_user`.
pub(crate) const SLOT: &str = "{slot}";

/// A sandbox host, as an instance is configured to use it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sandbox {
    /// Name of a slot's user, with [`SLOT`] in it.
    user: String,
    /// Host and port.
    host: String,
    /// Above the users' directories there.
    root: String,
}

// === impl Sandbox ===

impl Sandbox {
    /// The sandbox of an instance whose `config.get` says `actual`; `None` where we are not configured to use one.
    ///
    /// # Errors
    ///
    /// What must be changed in its `openclaw.json` before there is one.
    pub(super) fn of(actual: &Value, instance: &Instance) -> Result<Option<Self>, String> {
        let Some(user) = &instance.sandbox_user else {
            return Ok(None);
        };
        let sandbox =
            |pointer: &str| actual.pointer(&format!("/agents/defaults/sandbox/{pointer}"));
        let text = |pointer: &str| sandbox(pointer).and_then(Value::as_str);
        let missing = |what: &str| {
            Err(format!(
                "agents.defaults.sandbox.{what}, so nobody can have a sandbox"
            ))
        };
        if text("backend") != Some("ssh") {
            return missing("backend is not \"ssh\"");
        }
        let Some((_, host)) = text("ssh/target").and_then(|target| target.rsplit_once('@')) else {
            return missing("ssh.target is not of the form user@host:port");
        };
        if sandbox("ssh/strictHostKeyChecking") == Some(&Value::Bool(false)) {
            return missing("ssh.strictHostKeyChecking is false");
        }
        let Some(root) = text("ssh/workspaceRoot").filter(|root| root.starts_with('/')) else {
            return missing("ssh.workspaceRoot does not say which directory the users' own are in");
        };
        Ok(Some(Self {
            user: user.clone(),
            host: host.to_owned(),
            root: root.trim_end_matches('/').to_owned(),
        }))
    }

    /// What `agents.entries.<slot>.sandbox` must be.
    pub(super) fn of_slot(&self, slot: &str) -> Value {
        let user = self.user.replacen(SLOT, slot, 1);
        json!({
            "mode": "all", "backend": "ssh", "scope": "agent", "workspaceAccess": "rw",
            "ssh": {
                "target": format!("{user}@{}", self.host),
                "workspaceRoot": format!("{}/{user}", self.root),
            },
        })
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, root } = self;
        write!(f, "by SSH as {user}@{host}, in {root}/{user}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(more: &str) -> Instance {
        let text = format!(
            "name = \"one\"\nurl = \"http://127.0.0.1:1\"\nauth = {{ kind = \"trusted-proxy\", password = \"p\" }}\n{more}"
        );
        toml::from_str(&text).unwrap()
    }

    fn good() -> Value {
        json!({"agents": {"defaults": {"sandbox": {
            "backend": "ssh",
            "ssh": {"target": "nobody@sandbox.internal:22", "workspaceRoot": "/home/", "identityFile": "/k"},
        }}}})
    }

    #[test]
    fn every_slot_has_a_user_and_a_directory_of_its_own() {
        let instance = instance("sandbox_user = \"sbx-{slot}\"");
        let sandbox = Sandbox::of(&good(), &instance).unwrap().unwrap();
        assert_eq!(
            sandbox.of_slot("slot-007"),
            json!({
                "mode": "all", "backend": "ssh", "scope": "agent", "workspaceAccess": "rw",
                "ssh": {"target": "sbx-slot-007@sandbox.internal:22", "workspaceRoot": "/home/sbx-slot-007"},
            })
        );
    }

    #[test]
    fn there_is_none_unless_both_are_configured_for_it() {
        let ours = instance("sandbox_user = \"sbx-{slot}\"");
        assert_eq!(Sandbox::of(&good(), &instance("")), Ok(None));
        for (pointer, wrong, named) in [
            ("/backend", json!("docker"), "backend"),
            ("/backend", Value::Null, "backend"),
            ("/ssh/target", Value::Null, "target"),
            ("/ssh/target", json!("sandbox.internal"), "target"),
            ("/ssh/workspaceRoot", json!("sandboxes"), "workspaceRoot"),
            ("/ssh/workspaceRoot", Value::Null, "workspaceRoot"),
        ] {
            let mut config = good();
            let there = config.pointer_mut(&format!("/agents/defaults/sandbox{pointer}"));
            *there.unwrap() = wrong;
            let refused = Sandbox::of(&config, &ours).unwrap_err();
            assert!(refused.contains(named), "{pointer}: {refused}");
        }
        let mut config = good();
        config["agents"]["defaults"]["sandbox"]["ssh"]["strictHostKeyChecking"] = json!(false);
        assert!(Sandbox::of(&config, &ours).is_err(), "anybody's host");
        assert!(Sandbox::of(&json!({}), &ours).is_err());
    }
}
