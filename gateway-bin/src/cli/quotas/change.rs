use std::str::FromStr;

use serde_json::Value;
use tower_quota::TimeZone;

use super::limit_name::LimitName;
use crate::plan::DEFAULT;

/// As a name, the plan; as a value, what the plan says.
const PLAN: &str = "plan";

/// One change of what is special about somebody.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// A limit of their own, null being unlimited; or none but the plan's.
    Limit(LimitName, Option<Value>),
    /// Another plan, or the default one.
    Plan(Option<String>),
    /// Another time zone, or the plans'.
    TimeZone(Option<String>),
}

// === impl Change ===

impl Change {
    /// What is changed, as it stands before the `=`.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Limit(name, _) => name.to_string(),
            Self::Plan(_) => PLAN.to_owned(),
            Self::TimeZone(_) => "time-zone".to_owned(),
        }
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((what, to)) = text.split_once('=').filter(|(_, to)| !to.is_empty()) else {
            return Err(
                "must be what, `=` and a value: tokens/day=2000000, cost/month=100.00, calls/hour=unlimited, \
                 tokens/day=plan, plan=pro or time-zone=Europe/Berlin"
                    .to_owned(),
            );
        };
        Ok(match what {
            PLAN => Self::Plan(Some(to.to_owned()).filter(|plan| plan != DEFAULT)),
            "time-zone" if to == PLAN => Self::TimeZone(None),
            "time-zone" => {
                let zone = TimeZone::named(to).map_err(|error| error.to_string())?;
                Self::TimeZone(Some(zone.name().to_owned()))
            }
            _ => {
                let name: LimitName = what
                    .parse()
                    .map_err(|error| format!("{error}; or plan or time-zone"))?;
                let limit = match to {
                    PLAN => None,
                    "unlimited" => Some(Value::Null),
                    amount => Some(name.amount(amount).map_err(|error| {
                        format!("{error}, or unlimited, or plan for the plan's")
                    })?),
                };
                Self::Limit(name, limit)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tower_quota::{Dimension, Window};

    use super::*;

    #[test]
    fn a_change_says_what_is_to_be() {
        let limit =
            |dimension, window, limit| Change::Limit(LimitName { dimension, window }, limit);
        for (text, change) in [
            (
                "tokens/day=2000000",
                limit(Dimension::Tokens, Window::Day, Some(json!(2_000_000))),
            ),
            (
                "tokens/minute=0",
                limit(Dimension::Tokens, Window::Minute, Some(json!(0))),
            ),
            (
                "cost/month=100",
                limit(Dimension::Cost, Window::Month, Some(json!("100.00"))),
            ),
            (
                "calls/hour=unlimited",
                limit(Dimension::Calls, Window::Hour, Some(Value::Null)),
            ),
            (
                "tokens/day=plan",
                limit(Dimension::Tokens, Window::Day, None),
            ),
            ("plan=pro", Change::Plan(Some("pro".to_owned()))),
            ("plan=default", Change::Plan(None)),
            (
                "time-zone=europe/berlin",
                Change::TimeZone(Some("Europe/Berlin".to_owned())),
            ),
            ("time-zone=plan", Change::TimeZone(None)),
        ] {
            assert_eq!(text.parse(), Ok(change), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_change_is_refused_with_the_form_it_must_have() {
        for (text, said) in [
            ("tokens/day", "must be what, `=` and a value"),
            ("tokens/day=", "must be what, `=` and a value"),
            ("plan=", "must be what, `=` and a value"),
            ("=5", "like tokens/day; or plan or time-zone"),
            ("tokens=5", "like tokens/day"),
            ("token/day=5", "like tokens/day"),
            ("tokens/week=5", "like tokens/day"),
            ("tokens/day/=5", "like tokens/day"),
            ("Tokens/Day=5", "like tokens/day"),
            ("tokens/day=-1", "a whole number from 0"),
            ("tokens/day=+1", "a whole number from 0"),
            ("tokens/day=1.5", "a whole number from 0"),
            ("tokens/day=NaN", "a whole number from 0"),
            ("tokens/day=inf", "a whole number from 0"),
            ("tokens/day=1e6", "a whole number from 0"),
            ("calls/day=9223372036854775808", "a whole number from 0"),
            ("calls/day=5=6", "a whole number from 0"),
            ("cost/day=-0.01", "US dollars that are not negative"),
            ("cost/day=NaN", "US dollars that are not negative"),
            ("cost/day=$5", "US dollars that are not negative"),
            ("cost/day=9999999999999", "US dollars that are not negative"),
            ("cost/day=0.0000000001", "at most nine decimals"),
            ("time-zone=Mars/Olympus", "not the name of a time zone"),
        ] {
            let error = text.parse::<Change>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
