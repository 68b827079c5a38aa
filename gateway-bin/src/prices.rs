//! The price list from its configuration.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use tower_usage::{Import, PriceEntry, PriceList, Rate};
use tracing::info;

use crate::config::{ConfigError, Price as Entry, Prices, UnknownModel};

/// The prices of `[[price]]`, those of the imported file for every model that is not named there, and the fallback.
///
/// # Errors
///
/// Two prices for one model, day and tier of service, a price in a tier for a model that has none without, a file that
/// cannot be imported, named with its line, or a fallback without a price.
pub fn price_list(prices: &[Entry], more: &Prices) -> Result<PriceList, ConfigError> {
    // One that begins on a day does not take away what holds until then.
    let since_ever = prices.iter().filter(|price| price.from.is_none());
    let named: BTreeSet<&str> = since_ever.map(|price| price.model.as_str()).collect();
    let mut entries = Vec::with_capacity(prices.len());
    for price in prices.iter().filter(|price| price.service_tier.is_none()) {
        entries.push(with_tiers(entry(price), price, prices)?);
    }
    if let Some((tier, alone)) = prices.iter().find_map(|price| {
        let tier = price.service_tier.as_deref()?;
        let is_alone = !prices.iter().any(|other| is_base(other, price));
        is_alone.then_some((tier, price))
    }) {
        return Err(ConfigError::Invalid {
            key: format!("price.{}", alone.model),
            problem: format!(
                "is priced for `{tier}`, but not for the same day without service_tier; add that price"
            ),
        });
    }
    if let Some(path) = &more.import {
        let imported = import(path)?.into_iter();
        entries.extend(imported.filter(|entry| !named.contains(&**entry.model())));
    }
    let list = PriceList::new(entries).map_err(|duplicate| ConfigError::Invalid {
        key: format!("price.{}", duplicate.model()),
        problem: "is priced twice for the same day; keep one".to_owned(),
    })?;
    let list = match more.unknown {
        UnknownModel::Refuse => list.unlisted_as_requested(),
        UnknownModel::Record => list,
    };
    let Some(model) = &more.fallback else {
        return Ok(list);
    };
    list.fallback(model).map_err(|_| ConfigError::Invalid {
        key: "prices.fallback".to_owned(),
        problem: format!("`{model}` has no price itself; give it a [[price]]"),
    })
}

fn import(path: &Path) -> Result<Vec<PriceEntry>, ConfigError> {
    let invalid = |problem: String| ConfigError::Invalid {
        key: "prices.import".to_owned(),
        problem: format!("{}: {problem}", path.display()),
    };
    let text = fs::read_to_string(path).map_err(|error| invalid(error.to_string()))?;
    let import = Import::read(&text).map_err(|error| {
        let mut problem = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            problem = format!("{problem}: {cause}");
        }
        invalid(problem)
    })?;
    info!(
        models = import.entries.len(),
        left_out = import.left_out,
        costs_not_applied = import.unapplied.len(),
        "prices imported"
    );
    Ok(import.entries)
}

/// Whether a price is what another holds beside, in its tier of service.
fn is_base(base: &Entry, in_tier: &Entry) -> bool {
    let day = |price: &Entry| price.from.map(|day| day.0);
    base.service_tier.is_none() && base.model == in_tier.model && day(base) == day(in_tier)
}

/// Adds what the same model costs in tiers of service from the same day on.
fn with_tiers(
    mut entry: PriceEntry,
    base: &Entry,
    prices: &[Entry],
) -> Result<PriceEntry, ConfigError> {
    let mut seen = BTreeSet::new();
    for price in prices.iter().filter(|price| is_base(base, price)) {
        let Some(tier) = price.service_tier.as_deref() else {
            continue;
        };
        if !seen.insert(tier) {
            return Err(ConfigError::Invalid {
                key: format!("price.{}", price.model),
                problem: format!("is priced twice for `{tier}` and the same day; keep one"),
            });
        }
        entry = entry.in_service_tier(tier, 0, rate(price));
    }
    Ok(entry)
}

fn entry(price: &Entry) -> PriceEntry {
    let entry = PriceEntry::new(price.model.as_str(), rate(price));
    match price.from {
        Some(day) => entry.effective_from(day.0),
        None => entry,
    }
}

fn rate(price: &Entry) -> Rate {
    let mut rate = Rate::new(price.input.0, price.output.0);
    if let Some(price) = price.cache_read {
        rate = rate.cache_read(price.0);
    }
    if let Some(price) = price.cache_write {
        rate = rate.cache_write(price.0);
    }
    match price.cache_write_1h {
        Some(price) => rate.cache_write_1h(price.0),
        None => rate,
    }
}

/// Midnight UTC of an ISO 8601 calendar date.
#[must_use]
pub fn parse_day(text: &str) -> Option<SystemTime> {
    let day: jiff::civil::Date = text.parse().ok()?;
    Some(
        day.to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn imported(text: &str, prices: &str) -> Result<PriceList, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let more = Prices {
            import: Some(file.path().to_owned()),
            fallback: Some("b".to_owned()),
            ..Prices::default()
        };
        #[derive(serde::Deserialize)]
        struct Named {
            price: Vec<Entry>,
        }
        let named: Named = toml::from_str(prices).unwrap();
        price_list(&named.price, &more).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_named_wins_over_what_is_imported_and_the_rest_falls_back() {
        let text = r#"{"a": {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
            "b": {"input_cost_per_token": 3e-06, "output_cost_per_token": 4e-06}}"#;
        let named = "[[price]]\nmodel = \"a\"\ninput = \"9.00\"\noutput = \"9.00\"\n";
        let list = imported(text, named).unwrap();
        let input = |model| {
            let priced = list.price(model, &Default::default(), SystemTime::UNIX_EPOCH);
            let priced = priced.unwrap();
            (priced.rate.input_price().to_string(), priced.as_model)
        };
        assert_eq!(input("a"), ("9.00".to_owned(), None));
        assert_eq!(input("b"), ("3.00".to_owned(), None));
        assert_eq!(input("c"), ("3.00".to_owned(), Some("b".into())));
        // A price that is announced does not end the one before.
        let announced = named.replace("9.00\"\n", "9.00\"\nfrom = \"2100-01-01\"\n");
        let announced = announced.replacen("from = \"2100-01-01\"\n", "", 1);
        let list = imported(text, &announced).unwrap();
        let priced = list.price("a", &Default::default(), SystemTime::UNIX_EPOCH);
        assert_eq!(priced.unwrap().rate.input_price().to_string(), "1.00");
    }

    fn named(text: &str) -> Result<PriceList, String> {
        #[derive(serde::Deserialize)]
        struct Named {
            price: Vec<Entry>,
        }
        let named: Named = toml::from_str(text).unwrap();
        price_list(&named.price, &Prices::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn d5_55_a_model_has_a_price_for_an_hour_in_the_cache_and_in_tiers_of_service() {
        let base = "[[price]]\nmodel = \"a\"\ninput = \"3.00\"\noutput = \"9.00\"\n";
        let of = |tier: &str, more: &str| {
            format!(
                "[[price]]\nmodel = \"a\"\nservice_tier = \"{tier}\"\ninput = \"1.00\"\noutput = \"2.00\"\n{more}"
            )
        };
        let priced = |list: &PriceList, tier: &str| {
            let mut record =
                tower_usage::UsageRecord::new("u".into(), tower_usage::Operation::ModelCall);
            record.model = Some("a".into());
            record.tokens.cache_write = Some(10);
            record.tokens.cache_write_1h = Some(10);
            record.metadata = Some(format!("{{\"service_tier\":\"{tier}\"}}").into());
            record.price(list);
            let metadata = record.metadata.unwrap();
            let is_marked = metadata.contains("cache_write_1h_unpriced");
            let cost = record.cost.map(tower_usage::NanoUsd::as_nanos);
            (cost, is_marked, metadata.contains("tier_unpriced"))
        };
        let text = format!(
            "{base}cache_write = \"3.75\"\ncache_write_1h = \"6.00\"\n{}",
            of("flex", "")
        );
        let list = named(&text).unwrap();
        assert_eq!(priced(&list, "priority"), (Some(60_000), false, true));
        assert_eq!(
            priced(&list, "flex"),
            (Some(10_000), true, false),
            "at its cache_write"
        );

        let twice = format!("{text}{}", of("flex", ""));
        assert!(named(&twice).unwrap_err().contains("price.a"));
        let later = "from = \"2100-01-01\"\n";
        let alone = format!("{text}{}", of("priority", later));
        assert!(named(&alone).unwrap_err().contains("`priority`"));
        assert!(named(&of("flex", "")).is_err());
    }

    #[test]
    fn d5_49_a_price_that_is_none_is_refused_with_file_and_line() {
        for cost in ["-1e-06", "1e400", "\"NaN\""] {
            let text = format!(
                "{{\n\"b\": {{\"input_cost_per_token\": 1e-06, \"output_cost_per_token\": 1e-06}},\n\"a\": {{\n\"input_cost_per_token\": {cost}}}\n}}"
            );
            let error = imported(&text, "price = []").unwrap_err();
            assert!(
                error.contains("prices.import") && error.contains("line 4"),
                "{error}"
            );
        }
    }
}
