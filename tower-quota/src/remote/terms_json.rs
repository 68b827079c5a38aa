use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Allowance, Dimension, Grant, Limit, Limits, Terms, TimeZone, Window, unix_ms::UnixMs};

/// Terms as a store keeps them, beside their version.
#[derive(Deserialize, Serialize)]
struct Text {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    limits: Vec<TextLimit>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    grants: Vec<TextGrant>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_zone: Option<Box<str>>,
}

#[derive(Deserialize, Serialize)]
struct TextLimit {
    dimension: Box<str>,
    window: Box<str>,
    /// Absent: unlimited. A text, since not every reader of JSON has so great numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Box<str>>,
}

#[derive(Deserialize, Serialize)]
struct TextGrant {
    dimension: Box<str>,
    window: Box<str>,
    amount: Box<str>,
    /// In milliseconds since 1970.
    expires_at: u64,
}

/// Terms as JSON, without their version.
pub(crate) fn terms_json(terms: &Terms) -> String {
    let limit = |limit: &Limit| TextLimit {
        dimension: limit.dimension().as_str().into(),
        window: limit.window().as_str().into(),
        amount: match limit.allowance() {
            Allowance::AtMost(amount) => Some(amount.to_string().into()),
            Allowance::Unlimited => None,
        },
    };
    let grant = |grant: &Grant| TextGrant {
        dimension: grant.dimension().as_str().into(),
        window: grant.window().as_str().into(),
        amount: grant.amount().to_string().into(),
        expires_at: UnixMs::from(grant.expires_at()).get(),
    };
    let text = Text {
        plan: terms.plan_name().cloned(),
        limits: terms.own_limits().iter().map(limit).collect(),
        grants: terms.grants().iter().map(grant).collect(),
        time_zone: terms.zone().map(|zone| zone.name().into()),
    };
    // Strings and numbers always serialise.
    serde_json::to_string(&text).unwrap_or_default()
}

/// Terms from their JSON and version. `None` if they say what this version does not know: to leave out a limit would be
/// to lift it.
pub(crate) fn parse_terms(version: u64, json: &str) -> Option<Terms> {
    // An array would do for a struct as well.
    if !json.starts_with('{') {
        return None;
    }
    let text: Text = serde_json::from_str(json).ok()?;
    let mut terms = Terms::default().at_version(version);
    if let Some(plan) = text.plan {
        terms = terms.plan(plan);
    }
    let limits = text.limits.iter().map(|limit| {
        let (dimension, window) = parse_names(&limit.dimension, &limit.window)?;
        let allowance = match &limit.amount {
            Some(amount) => Allowance::AtMost(amount.parse().ok()?),
            None => Allowance::Unlimited,
        };
        Some(Limit::new(dimension, window, allowance))
    });
    terms = terms.limits(Limits::new(limits.collect::<Option<Vec<_>>>()?).ok()?);
    for grant in &text.grants {
        let (dimension, window) = parse_names(&grant.dimension, &grant.window)?;
        let expires_at = UnixMs::new(grant.expires_at)?.system_time();
        let amount = grant.amount.parse().ok()?;
        terms = terms.grant(Grant::new(dimension, window, amount, expires_at));
    }
    if let Some(zone) = &text.time_zone {
        terms = terms.time_zone(TimeZone::named(zone).ok()?);
    }
    Some(terms)
}

fn parse_names(dimension: &str, window: &str) -> Option<(Dimension, Window)> {
    let mut dimensions = Dimension::ALL.into_iter();
    let mut windows = Window::ALL.into_iter();
    dimensions
        .find(|known| known.as_str() == dimension)
        .zip(windows.find(|known| known.as_str() == window))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn terms_come_back_from_their_text() {
        let limits = Limits::new([
            Limit::at_most(Dimension::Cost, Window::Month, u64::MAX),
            Limit::at_most(Dimension::Calls, Window::Minute, 0),
            Limit::unlimited(Dimension::Tokens, Window::Hour),
        ]);
        let at = UNIX_EPOCH + Duration::from_millis(5);
        let terms = Terms::default()
            .plan("\0\"🦞")
            .limits(limits.unwrap())
            .grant(Grant::new(Dimension::Calls, Window::Day, u64::MAX, at))
            .time_zone(TimeZone::named("Asia/Kolkata").unwrap())
            .at_version(7);
        assert_eq!(parse_terms(7, &terms_json(&terms)), Some(terms));
        assert_eq!(terms_json(&Terms::default()), "{}");
        assert_eq!(parse_terms(0, "{}"), Some(Terms::default()));
    }

    #[test]
    fn what_is_not_understood_is_not_left_out() {
        for json in [
            "",
            "[]",
            r#"{"limits":[{"dimension":"tokens","window":"fortnight","amount":"1"}]}"#,
            r#"{"limits":[{"dimension":"tokens","window":"day","amount":"-1"}]}"#,
            r#"{"time_zone":"Europe/Atlantis"}"#,
            r#"{"grants":[{"dimension":"x","window":"day","amount":"1","expires_at":1}]}"#,
        ] {
            assert_eq!(parse_terms(1, json), None, "{json}");
        }
    }
}
