#![cfg_attr(
    all(feature = "openai", feature = "sqlite"),
    doc = include_str!("../README.md")
)]
// The README shows what is behind these two features.
#![cfg_attr(
    not(all(feature = "openai", feature = "sqlite")),
    doc = "Meters what calls of language models take. Described in full with the features `openai` and `sqlite`."
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "openai")]
mod body;
mod clock;
mod future;
mod layer;
mod meter;
mod money;
#[cfg(feature = "openai")]
pub mod openai;
mod price;
#[cfg(feature = "sqlite")]
mod query;
mod record;
mod service;
mod sink;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod tokens;

#[cfg(feature = "openai")]
pub use self::body::ResponseBody;
pub use self::{
    clock::{Clock, SystemClock},
    future::ResponseFuture,
    layer::UsageLayer,
    meter::{Opened, UsageMeter},
    money::{AmountError, NanoUsd},
    price::{DuplicatePrice, Price, PriceEntry, PriceList, Prices, Rate},
    record::{InvalidRecordId, Operation, Outcome, RecordId, Source, UsageRecord},
    service::Usage,
    sink::{Begun, Full, Place, Sink},
    tokens::TokenCounts,
};
