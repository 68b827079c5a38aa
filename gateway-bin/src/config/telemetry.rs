use serde::Deserialize;

/// `[telemetry]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Telemetry {
    /// Where a collector takes traces by OTLP over HTTP, without `/v1/traces`; absent: there are none.
    pub otlp: Option<String>,
    /// The share of the traces that begin here which are recorded, from 0 to 1.
    #[serde(default = "all")]
    pub sample: f64,
    /// What the collector knows this service by.
    #[serde(default = "name")]
    pub service_name: String,
}

const fn all() -> f64 {
    1.0
}

fn name() -> String {
    "gateway".to_owned()
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp: None,
            sample: all(),
            service_name: name(),
        }
    }
}
