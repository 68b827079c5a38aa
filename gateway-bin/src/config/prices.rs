use std::path::PathBuf;
use std::time::SystemTime;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// `[[price]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Price {
    /// The model as the provider's answer names it.
    pub model: String,
    /// Input that was not cached.
    pub input: UsdPerMillion,
    /// Output, reasoning included.
    pub output: UsdPerMillion,
    /// Input read from a cache; default: as input.
    pub cache_read: Option<UsdPerMillion>,
    /// Input written to a cache; default: as input.
    pub cache_write: Option<UsdPerMillion>,
    /// Input written to a cache to stay there for an hour. Default: none; a call that writes so is then one for a model
    /// without a price, or, with `unknown = "refuse"`, charged at `cache_write`, and its record says so.
    pub cache_write_1h: Option<UsdPerMillion>,
    /// Tier of service in which these prices hold, as the provider's answer names it (`flex`, `priority`), beside those of
    /// the same model without one. Default: every one without prices of its own; the record of a call in such a tier says
    /// so.
    pub service_tier: Option<String>,
    /// First day on which the price holds; default: always.
    pub from: Option<Day>,
}

/// US dollars per million tokens, as a decimal: `"3.00"`.
#[derive(Clone, Copy, Debug)]
pub struct UsdPerMillion(pub tower_usage::Price);

/// Midnight UTC of a day: `"2025-09-29"`.
#[derive(Clone, Copy, Debug)]
pub struct Day(pub SystemTime);

// Read with the file, so that an error names the line.

impl<'de> Deserialize<'de> for UsdPerMillion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let price = text.parse().map_err(|error| {
            D::Error::custom(format!(
                "`{text}`: {error}; write US dollars per million tokens, like \"3.00\""
            ))
        });
        price.map(Self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let day = crate::prices::parse_day(&text);
        let problem = || format!("`{text}` is not a day; write it like \"2025-09-29\"");
        day.map(Self).ok_or_else(|| D::Error::custom(problem()))
    }
}

/// `[prices]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Prices {
    /// File of prices in the form of LiteLLM's `model_prices_and_context_window.json`; a `[[price]]` of the same model wins.
    pub import: Option<PathBuf>,
    /// Model at whose price every model without one is charged; its records say so.
    pub fallback: Option<String>,
    /// What becomes of calls for a model without a price.
    #[serde(default)]
    pub unknown: UnknownModel,
}

/// What becomes of calls for a model without a price.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum UnknownModel {
    /// They are refused, and a configuration that offers such a model too. An answer by a model without one, such as a
    /// dated name, is charged as one by the model that was asked for, and its record says so.
    #[default]
    Refuse,
    /// They are recorded without a cost, and counted in `gateway_unpriced_records_total`: limits on money do not see them.
    /// `gateway usage reprice` prices them when there is a price.
    Record,
}

/// `[usage]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Usage {
    /// File to which a copy of each record is added as one line of JSON. SIGHUP opens it anew, for whoever rotates it.
    pub json_lines: Option<PathBuf>,
}
