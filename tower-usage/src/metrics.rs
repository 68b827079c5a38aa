use std::{collections::HashSet, fmt, sync::Arc};

use metrics::{SharedString, counter};

use crate::{Full, NanoUsd, RecordId, Sink, UsageRecord};

/// A sink that counts records with the [`metrics`](https://docs.rs/metrics) facade.
///
/// | counter | labels | |
/// | --- | --- | --- |
/// | `usage_records_total` | `operation`, `outcome`, `source`, `provider` | records |
/// | `usage_tokens_total` | `model`, `class` | tokens; `class` is `input`, `output`, `cache_read`, `cache_write`, or `reasoning`, which is part of `output`, or `cache_write_1h`, which is part of `cache_write` |
/// | `usage_cost_nano_usd_total` | `model`, `class` | billionths of a US dollar; `class` is `input`, `output`, `cache_read` or `cache_write`, which make up the whole, or `none` of a cost that the record has no rate for |
///
/// There are never more series than the names that were given allow, whatever clients ask for: a model or a provider
/// beyond those is `other`, and one that is not known is `none`. Users are no label. The model is the one that answered,
/// else the one that was asked for.
///
/// It has room for everything. Put it beside a ledger with a [`Tee`](crate::Tee).
///
/// # Examples
///
/// ```
/// # use std::sync::Arc;
/// # use tower_usage::{MetricsSink, PriceList, Sink, Tee};
/// # fn sink(ledger: Arc<dyn Sink>, prices: &PriceList) {
/// let metrics = MetricsSink::new(prices.models().cloned()).providers(["openai", "anthropic"]);
/// let sink = Tee::new(ledger).copy_to(Arc::new(metrics));
/// # }
/// ```
#[derive(Clone)]
pub struct MetricsSink {
    models: HashSet<Arc<str>>,
    providers: HashSet<Arc<str>>,
}

/// A name that was not given.
const OTHER: &str = "other";
/// No name.
const NONE: &str = "none";

// === impl MetricsSink ===

impl MetricsSink {
    /// Counts these models each by itself.
    pub fn new<M: Into<Arc<str>>>(models: impl IntoIterator<Item = M>) -> Self {
        Self {
            models: models.into_iter().map(Into::into).collect(),
            providers: HashSet::new(),
        }
    }

    /// Sets the providers that are counted each by itself. Default: none is.
    #[must_use]
    pub fn providers<P: Into<Arc<str>>>(mut self, providers: impl IntoIterator<Item = P>) -> Self {
        self.providers = providers.into_iter().map(Into::into).collect();
        self
    }
}

impl Sink for MetricsSink {
    fn admit(&self) -> Result<(), Full> {
        Ok(())
    }

    fn record(&self, record: UsageRecord) {
        counter!(
            "usage_records_total",
            "operation" => record.operation.as_str(),
            "outcome" => record.outcome.as_str(),
            "source" => record.source.as_str(),
            "provider" => label(&self.providers, record.provider.as_ref())
        )
        .increment(1);
        let model = record.model.as_ref().or(record.requested_model.as_ref());
        let model = label(&self.models, model);
        let tokens = record.tokens;
        for (class, count) in [
            ("input", tokens.input),
            ("output", tokens.output),
            ("cache_read", tokens.cache_read),
            ("cache_write", tokens.cache_write),
            ("cache_write_1h", tokens.cache_write_1h),
            ("reasoning", tokens.reasoning),
        ] {
            if let Some(count) = count.filter(|count| *count > 0) {
                counter!("usage_tokens_total", "model" => model.clone(), "class" => class)
                    .increment(count);
            }
        }
        // A counter does not go down: what is given back is in the ledger only.
        for (class, cost) in cost_by_class(&record) {
            if let Ok(cost @ 1..) = u64::try_from(cost.as_nanos()) {
                counter!("usage_cost_nano_usd_total", "model" => model.clone(), "class" => class)
                    .increment(cost);
            }
        }
    }

    fn forgo(&self, _: Option<RecordId>) {}
}

impl fmt::Debug for MetricsSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsSink")
            .field("models", &self.models.len())
            .field("providers", &self.providers.len())
            .finish()
    }
}

fn cost_by_class(record: &UsageRecord) -> [(&'static str, NanoUsd); 4] {
    let rate = record
        .rate
        .filter(|rate| rate.cost(&record.tokens) == record.cost);
    let by_class = rate.and_then(|rate| rate.cost_by_class(&record.tokens));
    by_class.unwrap_or_else(|| {
        let (whole, nothing) = (record.cost.unwrap_or_default(), (NONE, NanoUsd::ZERO));
        [(NONE, whole), nothing, nothing, nothing]
    })
}

/// The name if it is among those that were given.
fn label(given: &HashSet<Arc<str>>, name: Option<&Arc<str>>) -> SharedString {
    let Some(name) = name else {
        return SharedString::const_str(NONE);
    };
    match given.get(name) {
        Some(name) => SharedString::from_shared(Arc::clone(name)),
        None => SharedString::const_str(OTHER),
    }
}
