#![cfg_attr(
    all(feature = "llm", feature = "postgres"),
    doc = include_str!("../README.md")
)]
// The README shows what is behind these two features.
#![cfg_attr(
    not(all(feature = "llm", feature = "postgres")),
    doc = "Meters what calls of language models take. Described in full with the features `llm` and `postgres`."
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "llm")]
mod body;
mod clock;
mod future;
#[cfg(feature = "json-lines")]
mod json_lines;
mod layer;
#[cfg(feature = "llm")]
pub mod llm;
mod meter;
#[cfg(feature = "metrics")]
mod metrics;
mod money;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod once;
#[cfg(feature = "postgres")]
pub mod postgres;
mod price;
#[cfg(feature = "sqlite")]
mod query;
mod record;
mod service;
mod sink;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod tee;
mod tokens;

#[cfg(feature = "llm")]
pub use self::body::ResponseBody;
#[cfg(feature = "json-lines")]
pub use self::json_lines::JsonLines;
#[cfg(feature = "metrics")]
pub use self::metrics::MetricsSink;
#[cfg(feature = "redis")]
pub use self::once::ClaimsError;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub use self::once::{Claims, Once};
#[cfg(feature = "import")]
pub use self::price::{Import, ImportError, Unapplied};
pub use self::{
    clock::{Clock, SystemClock},
    future::ResponseFuture,
    layer::UsageLayer,
    meter::{Opened, UsageMeter},
    money::{AmountError, NanoUsd},
    price::{DuplicatePrice, Price, PriceEntry, PriceList, Priced, Prices, Rate, UnlistedFallback},
    record::{InvalidRecordId, Operation, Outcome, RecordId, Source, UsageRecord},
    service::Usage,
    sink::{Begun, Full, Place, Sink},
    tee::Tee,
    tokens::TokenCounts,
};
