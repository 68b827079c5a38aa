use std::{fmt::Write as _, sync::Arc};

use super::list::Answered;
use crate::{PriceList, UsageRecord};

/// How the members of metadata begin, or are, that say of what there was no price. They come first, in this order.
const AS_MODEL: &str = r#""priced_as":""#;
const LACKS_CACHE_WRITE_1H: &str = r#""cache_write_1h_unpriced":true"#;
const LACKS_SERVICE_TIER: &str = r#""tier_unpriced":true"#;

/// How the member of metadata begins that names the tier that a call was served in. Within the text of another member
/// its quotes would be escaped.
const SERVICE_TIER: &str = r#""service_tier":""#;

// === impl UsageRecord ===

impl UsageRecord {
    /// Prices the record: sets `cost` and `rate` by the model that answered, else the one that was asked for, at the
    /// time of admission. Both are `None` if that model has no price, and `cost` alone if the amount does not fit.
    ///
    /// What is not priced by a price of its own is marked at the beginning of `metadata`. What else is in `metadata`
    /// stays; what is not an object, which it should be, does not.
    ///
    /// - `priced_as`, the name of a model: priced as [the one that was asked for](PriceList::unlisted_as_requested) or
    ///   as the list's [fallback](PriceList::fallback).
    /// - `cache_write_1h_unpriced`: tokens were [cached for an hour](crate::Rate::cache_write_1h), for which the model
    ///   has no price. It is then like a model without one: `cost` is `None`, unless there is a fallback, or the list
    ///   lets in only what has a price, by which they cost what cached tokens do.
    /// - `tier_unpriced`: the provider served it in the tier that `service_tier` in `metadata` names, which has
    ///   [no rate](crate::PriceEntry::in_service_tier), and it is priced as if it had not.
    ///
    /// Can be called again, when more is known or there are other prices.
    pub fn price(&mut self, prices: &PriceList) {
        let (model, requested) = (self.model.as_deref(), self.requested_model.as_ref());
        let tier = self.metadata.as_deref().and_then(service_tier);
        let answered = prices.price_answer(model, requested, tier, &self.tokens, self.admitted_at);
        self.rate = answered.rate;
        self.cost = answered.rate.and_then(|rate| rate.cost(&self.tokens));
        self.metadata = mark(self.metadata.take(), &answered);
    }
}

/// The tier that metadata names.
fn service_tier(metadata: &str) -> Option<&str> {
    let (_, tier) = metadata.split_once(SERVICE_TIER)?;
    tier.split_once('"').map(|(tier, _)| tier)
}

/// Puts the marks into metadata, and takes those that are there out.
fn mark(metadata: Option<Arc<str>>, answered: &Answered) -> Option<Arc<str>> {
    let mut marks = String::new();
    let mut add = |mark: &dyn Fn(&mut String)| {
        if !marks.is_empty() {
            marks.push(',');
        }
        mark(&mut marks);
    };
    if let Some(model) = &answered.as_model {
        add(&|marks| push_text(marks, AS_MODEL, model));
    }
    if answered.lacks_cache_write_1h {
        add(&|marks| marks.push_str(LACKS_CACHE_WRITE_1H));
    }
    if answered.lacks_service_tier {
        add(&|marks| marks.push_str(LACKS_SERVICE_TIER));
    }
    with_front(metadata, &marks)
}

/// Puts members at the beginning of metadata, in place of the marks that are there.
pub(crate) fn with_front(metadata: Option<Arc<str>>, front: &str) -> Option<Arc<str>> {
    let text = metadata.as_deref().unwrap_or("{}").trim();
    let members = text.strip_prefix('{').unwrap_or("}").trim_start();
    let unmarked = without_marks(members);
    if front.is_empty() && unmarked.len() == members.len() {
        return metadata;
    }
    match (front.is_empty(), unmarked == "}") {
        (true, true) => None,
        (true, false) => Some(format!("{{{unmarked}").into()),
        (false, true) => Some(format!("{{{front}}}").into()),
        (false, false) => Some(format!("{{{front},{unmarked}").into()),
    }
}

/// The members of an object after those that are marks.
fn without_marks(mut members: &str) -> &str {
    loop {
        let rest = match members.strip_prefix(AS_MODEL) {
            Some(model) => Some(after_text(model)),
            None => members
                .strip_prefix(LACKS_CACHE_WRITE_1H)
                .or_else(|| members.strip_prefix(LACKS_SERVICE_TIER)),
        };
        let Some(rest) = rest else {
            return members;
        };
        members = rest.trim_start_matches(',').trim_start();
    }
}

/// Appends a member that begins so, with this text.
fn push_text(to: &mut String, begin: &str, text: &str) {
    to.push_str(begin);
    for char in text.chars() {
        match char {
            '"' | '\\' => to.extend(['\\', char]),
            // Never fails: a string takes everything.
            '\0'..' ' => drop(write!(to, "\\u{:04x}", u32::from(char))),
            char => to.push(char),
        }
    }
    to.push('"');
}

/// What comes after a JSON string whose beginning was taken off.
fn after_text(text: &str) -> &str {
    let mut escaped = false;
    let end = text.find(|char| {
        let ends = char == '"' && !escaped;
        escaped = char == '\\' && !escaped;
        ends
    });
    let rest = end.and_then(|end| text.get(end + 1..));
    rest.unwrap_or("}")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{NanoUsd, Operation, PriceEntry, Rate};

    fn prices() -> PriceList {
        let rate = |text: &str| Rate::new(text.parse().unwrap(), text.parse().unwrap());
        PriceList::new([
            PriceEntry::new("m", rate("1")),
            PriceEntry::new("de\"a\\r\n", rate("9")).above(10, rate("90")),
        ])
        .unwrap()
    }

    fn record(model: Option<&str>, requested: Option<&str>, input: u64) -> UsageRecord {
        let mut record = UsageRecord::new("alice".into(), Operation::ModelCall);
        record.admitted_at = SystemTime::UNIX_EPOCH;
        record.model = model.map(Into::into);
        record.requested_model = requested.map(Into::into);
        record.tokens.input = Some(input);
        record
    }

    #[test]
    fn d6_61_prices_the_model_that_answered_before_the_one_asked_for() {
        for (model, requested, nanos) in [
            (Some("m"), Some("new"), Some(10_000)),
            (None, Some("m"), Some(10_000)),
            (Some("new"), Some("m"), None),
            (None, None, None),
        ] {
            let mut record = record(model, requested, 10);
            record.price(&prices());
            assert_eq!(
                record.cost,
                nanos.map(NanoUsd::from_nanos),
                "{model:?} {requested:?}"
            );
            assert_eq!(record.rate.is_some(), nanos.is_some());
            assert_eq!(record.metadata, None);
        }
    }

    #[test]
    fn what_is_priced_as_the_fallback_is_marked_once_and_only_then() {
        let fallback = prices().fallback("de\"a\\r\n").unwrap();
        let mark = r#"{"priced_as":"de\"a\\r\u000a""#;
        for (before, marked, unmarked) in [
            (None, "}", None),
            (Some("{}"), "}", None),
            (Some("{ }"), "}", None),
            (
                Some(r#"{"status":500,"error":"x"}"#),
                r#","status":500,"error":"x"}"#,
                Some(r#"{"status":500,"error":"x"}"#),
            ),
            (Some("no object"), "}", None),
        ] {
            let mut record = record(Some("new"), None, 11);
            record.metadata = before.map(Into::into);
            for _ in 0..2 {
                record.price(&fallback);
                assert_eq!(record.cost, Some(NanoUsd::from_nanos(990_000)), "its tier");
                let metadata = record.metadata.as_deref().unwrap();
                assert_eq!(metadata, format!("{mark}{marked}"), "{before:?}");
            }
            record.price(&prices());
            assert_eq!((record.cost, record.rate), (None, None));
            assert_eq!(record.metadata.as_deref(), unmarked, "{before:?}");
        }
    }

    #[test]
    fn d5_55_what_was_cached_for_an_hour_without_a_price_is_unpriced_or_marked_by_policy() {
        let rate = |text: &str| {
            let price: crate::Price = text.parse().unwrap();
            Rate::new(price, price)
        };
        let entries = |m: Rate| {
            let dear = rate("9").cache_write_1h("18".parse().unwrap());
            [
                PriceEntry::new("m", m),
                PriceEntry::new("half", rate("1")),
                PriceEntry::new("dear", dear),
            ]
        };
        let list = PriceList::new(entries(rate("1"))).unwrap();
        let priced = |list: &PriceList, before: Option<&str>, long: Option<u64>| {
            let mut record = record(Some("m"), Some("m"), 10);
            record.tokens.cache_write = Some(5);
            record.tokens.cache_write_1h = long;
            record.metadata = before.map(Into::into);
            record.price(list);
            let cost = record.cost.map(NanoUsd::as_nanos);
            assert_eq!(record.rate.is_some(), cost.is_some());
            (cost, record.metadata.as_deref().map(str::to_owned))
        };
        let own = |cost: i64| (Some(cost), None);
        for long in [None, Some(0)] {
            assert_eq!(priced(&list, None, long), own(15_000));
        }
        let mark = r#""cache_write_1h_unpriced":true"#;
        let marked =
            |cost, begin: &str, rest: &str| (cost, Some(format!("{{{begin}{mark}{rest}}}")));
        assert_eq!(priced(&list, None, Some(2)), marked(None, "", ""));
        let strict = list.clone().unlisted_as_requested();
        assert_eq!(priced(&strict, None, Some(2)), marked(Some(15_000), "", ""));
        let before = Some(r#"{"left":true}"#);
        assert_eq!(
            priced(&strict, before, Some(2)),
            marked(Some(15_000), "", r#","left":true"#)
        );
        let fallback = list.clone().fallback("dear").unwrap();
        let as_dear = r#""priced_as":"dear","#;
        assert_eq!(
            priced(&fallback, before, Some(2)),
            marked(
                Some(10 * 9_000 + 3 * 9_000 + 2 * 18_000),
                as_dear,
                r#","left":true"#
            )
        );
        let half = list.fallback("half").unwrap();
        assert_eq!(priced(&half, None, Some(2)), marked(None, "", ""));
        // Once there is a price, nothing is marked any more.
        let known =
            PriceList::new(entries(rate("1").cache_write_1h("2".parse().unwrap()))).unwrap();
        for before in [
            format!("{{{as_dear}{mark},\"left\":true}}"),
            format!("{{{mark},\"left\":true}}"),
        ] {
            let (cost, metadata) = priced(&known, Some(&before), Some(2));
            assert_eq!(
                (cost, metadata.as_deref()),
                (Some(17_000), Some(r#"{"left":true}"#))
            );
        }
        assert_eq!(
            priced(&known, Some(&format!("{{{mark}}}")), Some(2)),
            own(17_000)
        );
    }

    #[test]
    fn d5_55_a_call_in_a_tier_is_priced_in_it_or_marked() {
        let rate = |text: &str| {
            let price: crate::Price = text.parse().unwrap();
            Rate::new(price, price)
        };
        let entry = PriceEntry::new("m", rate("2")).in_service_tier("flex", 0, rate("1"));
        let list = PriceList::new([entry]).unwrap();
        for (tier, cost, metadata) in [
            (
                r#"{"service_tier":"flex"}"#,
                10_000,
                r#"{"service_tier":"flex"}"#,
            ),
            (
                r#"{"service_tier":"priority"}"#,
                20_000,
                r#"{"tier_unpriced":true,"service_tier":"priority"}"#,
            ),
            (
                r#"{"tier_unpriced":true,"left":true, "service_tier":"flex"}"#,
                10_000,
                r#"{"left":true, "service_tier":"flex"}"#,
            ),
            (
                r#"{"a":"\"service_tier\":\"flex\""}"#,
                20_000,
                r#"{"a":"\"service_tier\":\"flex\""}"#,
            ),
        ] {
            let mut record = record(Some("m"), None, 10);
            record.metadata = Some(tier.into());
            for _ in 0..2 {
                record.price(&list);
                assert_eq!(record.cost, Some(NanoUsd::from_nanos(cost)), "{tier}");
                assert_eq!(record.metadata.as_deref(), Some(metadata));
            }
        }
    }

    #[test]
    fn metadata_is_left_alone_where_nothing_is_marked() {
        for metadata in [
            "{ \"a\": 1 }",
            "",
            "no object",
            "{\"a\":\"{\\\"priced_as\\\":\"}",
        ] {
            let mut record = record(Some("m"), None, 1);
            record.metadata = Some(metadata.into());
            record.price(&prices());
            assert_eq!(record.metadata.as_deref(), Some(metadata));
        }
    }

    #[test]
    fn d6_61_a_dated_name_is_priced_as_what_was_asked_for_if_that_is_chosen() {
        let rate = |price: &str| crate::Rate::new(price.parse().unwrap(), price.parse().unwrap());
        let entries = [
            crate::PriceEntry::new("m", rate("3")),
            crate::PriceEntry::new("m-listed", rate("5")),
            crate::PriceEntry::new("dear", rate("9")),
        ];
        let list = PriceList::new(entries).unwrap();
        let priced = |list: &PriceList, answered: Option<&str>, requested: &str| {
            let mut record = UsageRecord::new("alice".into(), crate::Operation::ModelCall);
            record.model = answered.map(Into::into);
            record.requested_model = Some(requested.into());
            record.tokens.input = Some(1_000_000);
            record.price(list);
            let cost = record.cost.map(|cost| cost.to_string());
            (cost, record.metadata.as_deref().map(str::to_owned))
        };
        let own = |cost: &str| (Some(cost.to_owned()), None);
        let marked = |cost: &str, model: &str| {
            let mark = format!(r#"{{"priced_as":"{model}"}}"#);
            (Some(cost.to_owned()), Some(mark))
        };
        assert_eq!(priced(&list, Some("m-2026-11-01"), "m"), (None, None));
        let list = list.unlisted_as_requested();
        assert_eq!(
            priced(&list, Some("m-2026-11-01"), "m"),
            marked("3.00", "m")
        );
        assert_eq!(priced(&list, Some("m-listed"), "m"), own("5.00"));
        assert_eq!(priced(&list, None, "m"), own("3.00"));
        assert_eq!(priced(&list, Some("x"), "y"), (None, None));
        let list = list.fallback("dear").unwrap();
        assert_eq!(
            priced(&list, Some("m-2026-11-01"), "m"),
            marked("3.00", "m")
        );
        assert_eq!(priced(&list, Some("x"), "y"), marked("9.00", "dear"));
    }
}
