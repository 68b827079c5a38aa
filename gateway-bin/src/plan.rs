//! What people may use, by their plan.

use std::collections::BTreeMap;

use thiserror::Error;
use tower_quota::{
    Dimension, DuplicateLimit, Limit, Limits, Plans, TimeZone, UnknownTimeZone, Window,
};
use tower_usage::NanoUsd;

use crate::config::Plan;

/// The plan of who has no other.
pub const DEFAULT: &str = "default";

/// Why plans cannot be used; the message says which.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A plan limits something twice.
    #[error("plan.{0}: {1}")]
    Twice(String, DuplicateLimit),
    /// There is no such time zone.
    #[error("plan.{0}.time_zone: {1}")]
    TimeZone(String, UnknownTimeZone),
    /// A threshold of alerts is none.
    #[error("plan.{0}.alert_at: each must be a percentage from 1 to 100")]
    AlertAt(String),
    /// Days of different plans would begin at different times.
    #[error("plan.{0}.time_zone: set it in plan.default alone; people can have one of their own")]
    ManyTimeZones(String),
}

/// The plans of a configuration.
///
/// # Errors
///
/// [`PlanError`].
pub fn plans(config: &BTreeMap<String, Plan>) -> Result<Plans, PlanError> {
    let mut plans = match config.get(DEFAULT) {
        Some(plan) => {
            Plans::new(limits(plan).map_err(|error| PlanError::Twice(DEFAULT.to_owned(), error))?)
        }
        None => Plans::default(),
    };
    for (name, plan) in config {
        if !plan
            .alert_at
            .iter()
            .all(|percent| (1..=100).contains(percent))
        {
            return Err(PlanError::AlertAt(name.clone()));
        }
        if let Some(zone) = &plan.time_zone {
            if name != DEFAULT {
                return Err(PlanError::ManyTimeZones(name.clone()));
            }
            let zone = TimeZone::named(zone);
            plans =
                plans.time_zone(zone.map_err(|error| PlanError::TimeZone(name.clone(), error))?);
        }
        if name != DEFAULT {
            let limits = limits(plan).map_err(|error| PlanError::Twice(name.clone(), error))?;
            plans = plans.named(name.as_str(), limits);
        }
    }
    Ok(plans)
}

fn limits(plan: &Plan) -> Result<Limits, DuplicateLimit> {
    let nanos = |amount: NanoUsd| u64::try_from(amount.as_nanos()).unwrap_or(0);
    let cost = |amount: Option<NanoUsd>| amount.map(nanos);
    let rows = [
        (Dimension::Tokens, Window::Minute, plan.tokens_per_minute),
        (Dimension::Tokens, Window::Hour, plan.tokens_per_hour),
        (Dimension::Tokens, Window::Day, plan.tokens_per_day),
        (Dimension::Tokens, Window::Month, plan.tokens_per_month),
        (Dimension::Cost, Window::Hour, cost(plan.cost_per_hour)),
        (Dimension::Cost, Window::Day, cost(plan.cost_per_day)),
        (Dimension::Cost, Window::Month, cost(plan.cost_per_month)),
        (Dimension::Calls, Window::Minute, plan.calls_per_minute),
        (Dimension::Calls, Window::Hour, plan.calls_per_hour),
        (Dimension::Calls, Window::Day, plan.calls_per_day),
        (Dimension::Calls, Window::Month, plan.calls_per_month),
    ];
    Limits::new(rows.into_iter().filter_map(|(dimension, window, amount)| {
        amount.map(|amount| Limit::at_most(dimension, window, amount))
    }))
}

#[cfg(test)]
mod tests {
    use tower_quota::Terms;

    use super::*;

    fn plan(calls_per_hour: u64, zone: Option<&str>) -> Plan {
        Plan {
            calls_per_hour: Some(calls_per_hour),
            time_zone: zone.map(str::to_owned),
            ..Plan::default()
        }
    }

    #[test]
    fn plans_are_told_by_name_and_share_a_time_zone() {
        let config = |plans: [(&str, Plan); 2]| {
            super::plans(&plans.map(|(name, plan)| (name.to_owned(), plan)).into())
        };
        let plans = config([
            ("default", plan(1, Some("Europe/Berlin"))),
            ("pro", plan(2, None)),
        ]);
        let plans = plans.unwrap();
        let hourly = |terms: &Terms| {
            let limits = plans.limits_of(terms);
            *limits.find(Dimension::Calls, Window::Hour).unwrap()
        };
        let lawful = |amount| Limit::at_most(Dimension::Calls, Window::Hour, amount);
        assert_eq!(hourly(&Terms::default()), lawful(1));
        assert_eq!(hourly(&Terms::default().plan("pro")), lawful(2));
        assert_eq!(plans.zone_of(&Terms::default()).name(), "Europe/Berlin");

        for (zones, said) in [
            (
                [Some("Mars"), None],
                "plan.default.time_zone: `Mars` is not",
            ),
            (
                [None, Some("UTC")],
                "plan.pro.time_zone: set it in plan.default",
            ),
        ] {
            let [default, pro] = zones.map(|zone| plan(1, zone));
            let refusal = config([("default", default), ("pro", pro)]).unwrap_err();
            assert!(refusal.to_string().starts_with(said), "{refusal}");
        }
    }
}
