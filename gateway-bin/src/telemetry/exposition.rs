use std::fmt;
use std::sync::Arc;

use metrics::{Key, Label, Level, Metadata, Recorder, with_recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::catalog::{CATALOG, Kind, Labels};

/// Buckets of how long something takes that people wait for, in seconds.
const SECONDS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];

/// Buckets of how long the quota store takes: 250 ms is the bound of a decision, and what is above 300 has missed it.
const QUOTA_SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.3, 1.0,
];

/// What is answered to who asks for metrics; clones share it.
#[derive(Clone)]
pub struct Exposition {
    handle: PrometheusHandle,
    more: Arc<[Source]>,
}

/// Writes metrics of what comes and goes, as it is when it is asked: a recorder keeps a series for ever.
type Source = Box<dyn Fn(&mut String) + Send + Sync>;

/// What records metrics, in the buckets that they have.
///
/// # Errors
///
/// The buckets are none.
pub fn recorder() -> Result<metrics_exporter_prometheus::PrometheusRecorder, BuildError> {
    let quota = Matcher::Full("gateway_quota_store_seconds".to_owned());
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(quota, &QUOTA_SECONDS)?
        .set_buckets_for_metric(seconds, &SECONDS)?;
    Ok(builder.build_recorder())
}

/// Says what each metric is to the recorder that is installed, and begins with zero wherever it is known what there will
/// be: of a counter that begins with one Prometheus does not see that it has grown.
pub fn describe() {
    with_recorder(|recorder| {
        for metric in CATALOG {
            let (name, meaning) = (metric.name.into(), metric.meaning.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, meaning),
                Kind::Gauge => recorder.describe_gauge(name, None, meaning),
                Kind::Histogram => recorder.describe_histogram(name, None, meaning),
            }
            if let Labels::Known(names, rows) = metric.labels {
                for row in rows {
                    let labels = names.iter().zip(*row);
                    let labels = labels.map(|(name, value)| Label::from_static_parts(name, value));
                    let key = Key::from_parts(metric.name, labels.collect::<Vec<_>>());
                    register(recorder, metric.kind, &key);
                }
            }
        }
    });
}

fn register(recorder: &dyn Recorder, kind: Kind, key: &Key) {
    let metadata = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));
    match kind {
        Kind::Counter => recorder.register_counter(key, &metadata).increment(0),
        Kind::Gauge => recorder.register_gauge(key, &metadata).increment(0.0),
        Kind::Histogram => drop(recorder.register_histogram(key, &metadata)),
    }
}

// === impl Exposition ===

impl Exposition {
    /// What `handle` has recorded, and nothing else.
    #[must_use]
    pub fn new(handle: PrometheusHandle) -> Self {
        Self {
            handle,
            more: Arc::new([]),
        }
    }

    /// With what this writes besides, each time.
    #[must_use]
    pub fn with(self, source: impl Fn(&mut String) + Send + Sync + 'static) -> Self {
        Self {
            more: Arc::new([Box::new(source)]),
            ..self
        }
    }

    /// All metrics, as Prometheus reads them.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        for source in &*self.more {
            source(&mut text);
        }
        text
    }

    /// The exporter's own bookkeeping, without which its memory grows.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}
