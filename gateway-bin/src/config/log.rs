use std::env;

use serde::Deserialize;

use crate::telemetry::log::LogFilter;

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Log {
    /// What is logged; default: `info`.
    pub filter: Option<LogFilter>,
}

/// The variable that says the same, and wins.
pub(crate) const VARIABLE: &str = "GATEWAY_LOG";

// === impl Log ===

impl Log {
    /// What is to be logged, unless the environment says so.
    #[must_use]
    pub fn filter(&self) -> Option<LogFilter> {
        let is_set = env::var_os(VARIABLE).is_some_and(|value| !value.is_empty());
        (!is_set).then(|| self.filter.clone().unwrap_or_default())
    }
}
