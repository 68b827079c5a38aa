use std::{fmt::Write as _, sync::Arc};

use crate::{PriceList, UsageRecord};

/// How metadata begins that names the fallback.
const MARK: &str = r#"{"priced_as":""#;

// === impl UsageRecord ===

impl UsageRecord {
    /// Prices the record: sets `cost` and `rate` by the model that answered, else the one that was asked for, at the
    /// time of admission. Both are `None` if that model has no price, and `cost` alone if the amount does not fit.
    ///
    /// Where it is priced as [the one that was asked for](PriceList::unlisted_as_requested) or as the list's
    /// [fallback](PriceList::fallback), `metadata` begins with `priced_as`, the name of that model. What else is in `metadata` stays; what is not an object, which it should be, does not.
    ///
    /// Can be called again, when more is known or there are other prices.
    pub fn price(&mut self, prices: &PriceList) {
        let (model, requested) = (self.model.as_deref(), self.requested_model.as_ref());
        let priced = prices.price_answer(model, requested, &self.tokens, self.admitted_at);
        let rate = priced.as_ref().map(|priced| priced.rate);
        self.rate = rate;
        self.cost = rate.and_then(|rate| rate.cost(&self.tokens));
        let as_model = priced.and_then(|priced| priced.as_model);
        self.metadata = mark(self.metadata.take(), as_model.as_deref());
    }
}

/// Puts the name of the fallback into metadata, or takes the one that is there out.
fn mark(metadata: Option<Arc<str>>, as_model: Option<&str>) -> Option<Arc<str>> {
    let marked = metadata.as_deref().and_then(|text| text.strip_prefix(MARK));
    let members = match (marked, metadata.as_deref()) {
        (Some(marked), _) => after_text(marked).trim_start_matches(','),
        (None, _) if as_model.is_none() => return metadata,
        (None, Some(text)) => text.trim().strip_prefix('{').unwrap_or("}"),
        (None, None) => "}",
    }
    .trim_start();
    let empty = members == "}";
    let Some(as_model) = as_model else {
        return (!empty).then(|| format!("{{{members}").into());
    };
    let mut text = MARK.to_owned();
    for char in as_model.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            // Never fails: a string takes everything.
            '\0'..' ' => drop(write!(text, "\\u{:04x}", u32::from(char))),
            char => text.push(char),
        }
    }
    text.push_str(if empty { "\"" } else { "\"," });
    text.push_str(members);
    Some(text.into())
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
