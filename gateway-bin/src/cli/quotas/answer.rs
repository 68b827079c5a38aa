use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::change::Change;
use super::limit_name::LimitName;

/// What is special about somebody, as the API shows it and takes it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quota {
    pub(super) version: u64,
    pub(super) plan: Option<String>,
    pub(super) time_zone: Option<String>,
    pub(super) limits: Vec<OwnLimit>,
    pub(super) grants: Vec<Grant>,
}

/// A limit in place of the plan's.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct OwnLimit {
    pub(super) dimension: String,
    pub(super) window: String,
    /// Null: unlimited.
    pub(super) limit: Value,
}

/// More of a limit, for a time.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Grant {
    pub(super) dimension: String,
    pub(super) window: String,
    pub(super) amount: Value,
    pub(super) expires_at: String,
}

/// How a limit stands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Standing {
    pub(super) dimension: String,
    pub(super) window: String,
    /// Null: unlimited.
    pub(super) limit: Value,
    pub(super) used: Value,
    pub(super) reserved: Value,
    /// Null: without an end.
    pub(super) remaining: Value,
    pub(super) resets_at: String,
}

/// What is special about somebody, and how they stand.
#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    pub(super) quota: Quota,
    pub(super) standing: Vec<Standing>,
}

/// The plans of the configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plans {
    pub(super) time_zone: String,
    pub(super) plans: Vec<Plan>,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub(super) struct Plan {
    pub(super) plan: String,
    pub(super) limits: Vec<OwnLimit>,
}

/// One of those of whom something is special.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) user: String,
    #[serde(flatten)]
    pub(super) quota: Quota,
}

/// Every limit of somebody, and whether a run would begin.
#[derive(Debug, Deserialize)]
pub(super) struct Explanation {
    pub(super) limits: Vec<Standing>,
    pub(super) run: Run,
}

/// Whether a run would begin.
#[derive(Debug, Deserialize)]
pub(super) struct Run {
    pub(super) allowed: bool,
    pub(super) reasons: Vec<Reason>,
}

/// Why not.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reason {
    pub(super) message: String,
    pub(super) resets_at: String,
}

// === impl Quota ===

impl Quota {
    /// The same with these changes.
    pub(super) fn changed(mut self, changes: &[Change]) -> Self {
        for change in changes {
            match change {
                Change::Limit(name, limit) => self.set_limit(*name, limit.as_ref()),
                Change::Plan(plan) => self.plan.clone_from(plan),
                Change::TimeZone(zone) => self.time_zone.clone_from(zone),
            }
        }
        self
    }

    fn set_limit(&mut self, name: LimitName, limit: Option<&Value>) {
        let (dimension, window) = (name.dimension.as_str(), name.window.as_str());
        let is_other = |own: &OwnLimit| own.dimension != dimension || own.window != window;
        self.limits.retain(is_other);
        self.limits.extend(limit.map(|limit| OwnLimit {
            dimension: dimension.to_owned(),
            window: window.to_owned(),
            limit: limit.clone(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let was = json!({
            "version": 3, "plan": "pro", "timeZone": null,
            "limits": [
                {"dimension": "tokens", "window": "day", "limit": 5},
                {"dimension": "cost", "window": "day", "limit": "1.00"},
                {"dimension": "calls", "window": "day", "limit": null},
            ],
            "grants": [{"dimension": "tokens", "window": "day", "amount": 1, "expiresAt": "2126-01-01T00:00:00Z"}],
            "standing": [],
        });
        let changes = [
            "tokens/day=6",
            "cost/day=plan",
            "tokens/hour=7",
            "time-zone=UTC",
        ];
        let changes = changes.map(|change| change.parse().unwrap());
        let quota: Quota = serde_json::from_value(was.clone()).unwrap();
        let is = json!({
            "version": 3, "plan": "pro", "timeZone": "UTC",
            "limits": [
                {"dimension": "calls", "window": "day", "limit": null},
                {"dimension": "tokens", "window": "day", "limit": 6},
                {"dimension": "tokens", "window": "hour", "limit": 7},
            ],
            "grants": was["grants"],
        });
        assert_eq!(json!(quota.changed(&changes)), is);
    }
}
