//! The instance's own wall between people: a role for each slot, which allows its own agent and sessions and nothing of
//! others, and a role for everybody else, which allows nothing.
//!
//! The roles are there before the people: when one is defined OpenClaw closes all connections, and when somebody is
//! given one only theirs.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};
use tracing::info;

use super::admin::{Admin, AdminError};
use super::dial::{DialError, Dialer, Person};
use super::difference::Difference;
use super::gate::Gate;
use super::standing::written;

/// The role of who has no slot.
const NOBODY: &str = "nobody";

/// How often the definition of roles is tried, and giving one to somebody.
const ATTEMPTS: usize = 5;

/// Pause before another attempt.
const RETRY: Duration = Duration::from_millis(500);

/// How long the administration channel may be gone after the roles were defined.
const RECONNECT: Duration = Duration::from_secs(15);

/// The name of a slot, of its agent and of its role.
#[must_use]
pub fn slot_name(slot: u32) -> String {
    format!("slot-{slot:03}")
}

/// The slot of that name.
pub(crate) fn slot_of(name: &str) -> Option<u32> {
    let slot = name.strip_prefix("slot-")?.parse().ok()?;
    (slot_name(slot) == name).then_some(slot)
}

/// Which slots an instance has in use: it is asked, so that nobody gets a slot with somebody else's sessions in it,
/// whatever became of our own store.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SlotsInUse {
    /// The slot whose role the person has already.
    pub own: Option<u32>,
    /// Those whose role somebody else has.
    pub of_others: HashSet<u32>,
    /// Those that have an agent.
    pub with_agent: HashSet<u32>,
}

/// Who and what an instance knows.
#[derive(Debug)]
pub(super) struct Census {
    profiles: Value,
    agents: Value,
}

/// Defines the roles of `slots` slots, where they are not defined as they must be.
///
/// # Errors
///
/// See [`AdminError`]; some may have been defined all the same.
pub(super) async fn define(admin: &Admin, gate: &Gate, slots: u32) -> Result<(), AdminError> {
    let mut failed = None;
    for _ in 0..ATTEMPTS {
        let current = match admin.call("config.get", json!({})).await {
            Ok(current) => current,
            // It is away, and not for what was done here.
            Err(error) if failed.is_none() => return Err(error),
            Err(error) => {
                failed = Some(error);
                // The channel is closed with all others when roles change.
                let _ = timeout(RECONNECT, admin.connected()).await;
                sleep(RETRY).await;
                continue;
            }
        };
        let roles = written(&current).pointer("/gateway/roles");
        let Some(missing) = missing(roles, slots) else {
            return Ok(());
        };
        let params = json!({
            "raw": json!({ "gateway": { "roles": missing.patch } }).to_string(),
            "baseHash": current.get("hash").and_then(Value::as_str),
            "replacePaths": missing.lists,
        });
        let changing = gate.change().await;
        let patched = admin.call("config.patch", params).await;
        drop(changing);
        match patched {
            Ok(_) => {
                info!(slots, "roles defined");
                failed = Some(AdminError::Down);
            }
            Err(error @ AdminError::Invalid { .. }) => return Err(error),
            Err(error) => failed = Some(error),
        }
        sleep(RETRY).await;
    }
    Err(failed.unwrap_or(AdminError::Down))
}

/// What of the roles is not as it must be.
pub(super) fn missing(actual: Option<&Value>, slots: u32) -> Option<Difference> {
    let definition = |agents: &[&str], scopes: &[&str]| json!({ "sessions": { "others": "none" }, "agents": agents, "scopes": scopes });
    let names = (1..=slots).map(slot_name);
    let wanted = names
        .map(|name| {
            let role = definition(&[&name], &["operator.read", "operator.write"]);
            (name, role)
        })
        .chain([(NOBODY.to_owned(), definition(&[], &[]))]);
    let (mut definitions, mut lists) = (Map::new(), Vec::new());
    for (name, role) in wanted {
        let actual = actual.and_then(|roles| roles.get("definitions")?.get(&name));
        let path = format!("gateway.roles.definitions.{name}");
        let difference = Difference::new(&path, actual, &role);
        lists.extend(difference.lists);
        definitions.extend(difference.patch.map(|patch| (name, patch)));
    }
    let default = actual
        .and_then(|roles| roles.get("default"))
        .and_then(Value::as_str);
    let patch = (default != Some(NOBODY) || !definitions.is_empty())
        .then(|| json!({ "default": NOBODY, "definitions": definitions }))?;
    Some(Difference {
        patch: Some(patch),
        lists,
    })
}

/// Whether the person whom the instance knows as `user` has that role.
pub(super) fn has(profiles: &Value, user: &str, role: &str) -> bool {
    let profile = profile(profiles, user);
    profile.and_then(|profile| profile.get("role")?.as_str()) == Some(role)
}

/// Whether somebody else than the person whom the instance knows as `user` has that role.
pub(super) fn is_of_other(profiles: &Value, user: &str, role: &str) -> bool {
    let own = profile(profiles, user).and_then(|profile| profile.get("id"));
    list(profiles, "profiles").any(|profile| {
        profile.get("role").and_then(Value::as_str) == Some(role)
            && (own.is_none() || profile.get("id") != own)
    })
}

/// Gives each person, by the name under which the instance knows them, the role of their slot. The connections of those
/// who had another one are closed.
///
/// # Errors
///
/// See [`AdminError`]; some may have been given theirs.
pub(super) async fn give(
    admin: &Admin,
    dialer: &Dialer,
    people: &[(&str, &str)],
) -> Result<(), AdminError> {
    let mut profiles = admin.call("users.list", json!({})).await?;
    for _ in 0..ATTEMPTS {
        let unknown: Vec<&str> = people
            .iter()
            .map(|(user, _)| *user)
            .filter(|user| profile(&profiles, user).is_none())
            .collect();
        if unknown.is_empty() {
            break;
        }
        // Somebody whom the instance has never seen gets to be known by connecting.
        let introduced =
            unknown.into_iter().map(
                async |user| match dialer.connect(&Person::new(user)).await {
                    Ok(_) | Err(DialError::Unbound) => {}
                    Err(_) => sleep(RETRY).await,
                },
            );
        join_all(introduced).await;
        profiles = admin.call("users.list", json!({})).await?;
    }
    let given = people.iter().map(async |(user, role)| {
        let profile = profile(&profiles, user).ok_or(AdminError::Refused {
            method: "users.list",
            message: "the person did not get to be known there".to_owned(),
            retry_after: None,
        })?;
        if profile.get("role").and_then(Value::as_str) == Some(role) {
            return Ok(());
        }
        let id = profile.get("id").and_then(Value::as_str);
        let params = json!({ "profileId": id, "role": role });
        admin.call("users.setRole", params).await.map(drop)
    });
    try_join_all(given).await.map(drop)
}

/// Takes the role of a slot from a person, by the name under which the instance knows them; their connections are closed.
///
/// # Errors
///
/// See [`AdminError`].
pub(super) async fn take(admin: &Admin, user: &str, role: &str) -> Result<(), AdminError> {
    let profiles = admin.call("users.list", json!({})).await?;
    let theirs = profile(&profiles, user)
        .filter(|profile| profile.get("role").and_then(Value::as_str) == Some(role));
    let Some(id) = theirs.and_then(|profile| profile.get("id")) else {
        return Ok(());
    };
    let params = json!({ "profileId": id, "role": NOBODY });
    admin.call("users.setRole", params).await.map(drop)
}

// === impl Census ===

impl Census {
    pub(super) async fn take(admin: &Admin) -> Result<Self, AdminError> {
        let (profiles, agents) = tokio::try_join!(
            admin.call("users.list", json!({})),
            admin.call("agents.list", json!({}))
        )?;
        Ok(Self { profiles, agents })
    }

    /// Its agents, as it lists them.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Value> {
        list(&self.agents, "agents")
    }

    /// The ids of its agents.
    fn agents(&self) -> impl Iterator<Item = &str> {
        list(&self.agents, "agents").filter_map(|agent| agent.get("id")?.as_str())
    }

    /// The slots in use, as it matters for the person whom it knows as `user`.
    pub(super) fn slots_in_use(&self, user: &str) -> SlotsInUse {
        let mut in_use = SlotsInUse::default();
        let own = profile(&self.profiles, user).and_then(|profile| profile.get("id"));
        for profile in list(&self.profiles, "profiles") {
            let role = profile.get("role").and_then(Value::as_str);
            match role.and_then(slot_of) {
                Some(slot) if profile.get("id") == own => in_use.own = Some(slot),
                Some(slot) => drop(in_use.of_others.insert(slot)),
                None => {}
            }
        }
        in_use.with_agent = self.agents().filter_map(slot_of).collect();
        in_use
    }
}

fn profile<'a>(profiles: &'a Value, user: &str) -> Option<&'a Value> {
    list(profiles, "profiles").find(|profile| {
        let emails = profile.get("emails").and_then(Value::as_array);
        let is_merged = profile
            .get("mergedInto")
            .is_some_and(|into| !into.is_null());
        !is_merged && emails.is_some_and(|emails| emails.iter().any(|email| email == user))
    })
}

pub(super) fn list<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    let items = answer.get(name).and_then(Value::as_array);
    items.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_is_away_is_waited_for_only_after_a_change_of_ours() {
        let begun = Instant::now();
        let away = Admin::answered_by(|_, _| Err(AdminError::Down));
        let defined = define(&away, &Gate::default(), 1).await;
        assert!(matches!(defined, Err(AdminError::Down)), "{defined:?}");
        assert_eq!(begun.elapsed(), Duration::ZERO);

        let mut asked = 0;
        let closes_all = Admin::answered_by(move |method, _| {
            asked += 1;
            match (asked, method) {
                (1, "config.get") => Ok(json!({ "config": {}, "hash": "h" })),
                (2 | 3, _) => Err(AdminError::Down),
                _ => {
                    let roles = super::missing(None, 1).and_then(|missing| missing.patch);
                    Ok(json!({ "config": { "gateway": { "roles": roles } } }))
                }
            }
        });
        define(&closes_all, &Gate::default(), 1).await.unwrap();
    }

    #[test]
    fn a_slot_has_one_name() {
        for slot in [1, 42, 150, 1_000] {
            assert_eq!(slot_of(&slot_name(slot)), Some(slot));
        }
        for other in [
            "slot-1",
            "slot-0001",
            "slot-+01",
            "slot-",
            "user-001",
            "main",
        ] {
            assert_eq!(slot_of(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_missing_is_found_and_nothing_else_touched() {
        let missing = |actual: Option<&Value>, slots| {
            let missing = super::missing(actual, slots);
            missing.map(|Difference { patch, lists }| (patch.unwrap(), lists))
        };
        let (all, lists) = missing(None, 2).unwrap();
        assert_eq!(
            all["definitions"]["slot-002"],
            json!({"sessions": {"others": "none"}, "agents": ["slot-002"], "scopes": ["operator.read", "operator.write"]})
        );
        assert_eq!(
            all["definitions"]["nobody"],
            json!({"sessions": {"others": "none"}, "agents": [], "scopes": []})
        );
        assert!(lists.is_empty());
        assert_eq!(missing(Some(&all), 2), None);
        let (more, _) = missing(Some(&all), 3).unwrap();
        assert_eq!(more["definitions"].as_object().unwrap().len(), 1);
        let mut changed = all.clone();
        changed["definitions"]["slot-001"]["agents"] = json!(["slot-001", "slot-002"]);
        changed["definitions"]["slot-001"]["tools"] = json!({"allow": ["exec"]});
        changed["definitions"]["operators"] = json!({"agents": "*"});
        let (repaired, mut lists) = missing(Some(&changed), 2).unwrap();
        assert_eq!(
            repaired["definitions"],
            json!({"slot-001": {"agents": ["slot-001"], "tools": null}})
        );
        lists.sort();
        let of_role = |list: &str| format!("gateway.roles.definitions.slot-001.{list}");
        assert_eq!(lists, [of_role("agents"), of_role("tools.allow")]);
        changed = all;
        changed["default"] = json!("operators");
        let (repaired, _) = missing(Some(&changed), 2).unwrap();
        assert_eq!(repaired, json!({"default": "nobody", "definitions": {}}));
    }

    #[test]
    fn slots_are_in_use_by_their_role_or_their_agent() {
        let census = Census {
            profiles: json!({"profiles": [{"id": "1", "emails": ["alice"], "role": "slot-002"},
                {"id": "2", "emails": ["bob"], "role": "slot-003"}, {"id": "3", "emails": ["x"], "role": "other"}]}),
            agents: json!({"agents": [{"id": "main"}, {"id": "slot-002"}, {"id": "slot-009"}]}),
        };
        let in_use = census.slots_in_use("alice");
        assert_eq!(in_use.own, Some(2));
        assert_eq!(in_use.of_others, [3].into());
        assert_eq!(in_use.with_agent, [2, 9].into());
        assert_eq!(census.slots_in_use("carol").own, None);
    }

    #[test]
    fn a_person_is_found_by_their_exact_name() {
        let list = json!({"profiles": [
            {"id": "1", "emails": ["alice2"]}, {"id": "2", "emails": ["alice"], "mergedInto": "3"},
            {"id": "3", "emails": ["x", "alice"], "mergedInto": null}]});
        assert_eq!(profile(&list, "alice").unwrap()["id"], "3");
        assert!(profile(&list, "Alice").is_none() && profile(&json!({}), "alice").is_none());
    }
}
