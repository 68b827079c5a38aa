//! The price list from its configuration.

use std::time::SystemTime;

use tower_usage::{Price, PriceEntry, PriceList, Rate};

use crate::config::{ConfigError, Price as Entry};

/// The prices that `[[price]]` names.
///
/// # Errors
///
/// A price or date that cannot be read, or two for one model and day.
pub fn price_list(prices: &[Entry]) -> Result<PriceList, ConfigError> {
    let entries = prices.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    PriceList::new(entries).map_err(|duplicate| ConfigError::Invalid {
        key: format!("price.{}", duplicate.model()),
        problem: "is priced twice for the same day; keep one".to_owned(),
    })
}

fn entry(price: &Entry) -> Result<PriceEntry, ConfigError> {
    let parse = |field: &str, text: &str| {
        text.parse::<Price>().map_err(|error| ConfigError::Invalid {
            key: format!("price.{}.{field}", price.model),
            problem: format!(
                "`{text}`: {error}; write US dollars per million tokens, like \"3.00\""
            ),
        })
    };
    let mut rate = Rate::new(
        parse("input", &price.input)?,
        parse("output", &price.output)?,
    );
    if let Some(text) = &price.cache_read {
        rate = rate.cache_read(parse("cache_read", text)?);
    }
    if let Some(text) = &price.cache_write {
        rate = rate.cache_write(parse("cache_write", text)?);
    }
    let entry = PriceEntry::new(price.model.as_str(), rate);
    let Some(from) = &price.from else {
        return Ok(entry);
    };
    let day = parse_day(from).ok_or_else(|| ConfigError::Invalid {
        key: format!("price.{}.from", price.model),
        problem: format!("`{from}` is not a day; write it like \"2025-09-29\""),
    })?;
    Ok(entry.effective_from(day))
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
