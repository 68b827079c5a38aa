#![doc = include_str!("../README.md")]
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
    price::{DuplicatePrice, Price, PriceEntry, PriceList, Rate},
    record::{InvalidRecordId, Operation, Outcome, RecordId, Source, UsageRecord},
    service::Usage,
    sink::{Full, Place, Sink},
    tokens::TokenCounts,
};
