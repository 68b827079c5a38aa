use std::path::PathBuf;

use serde::Deserialize;

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
