#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod amounts;
mod body;
mod carry;
mod charge;
mod clock;
mod denied;
mod deny;
mod deny_http;
mod error;
mod future;
mod grant;
mod layer;
mod limit;
mod policy;
mod reservation;
mod service;
mod shadow;
mod standing;
mod store;
mod store_future;
mod subject;
mod terms;
mod ticket;
mod time_zone;
mod unix_ms;
mod window;

#[cfg(feature = "laws")]
pub mod laws;
#[cfg(feature = "memory")]
mod memory;

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod remote;
#[cfg(feature = "tokio")]
mod renewing;

#[cfg(feature = "memory")]
pub use crate::memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use crate::postgres::PostgresStore;
#[cfg(feature = "redis")]
pub use crate::redis::{RedisMembers, RedisReseeding, RedisStore, RedisStoreBuilder};
#[cfg(feature = "tokio")]
pub use crate::renewing::Renewing;
pub use crate::{
    amounts::{Amounts, Dimension},
    body::ResponseBody,
    carry::Carry,
    charge::{Charge, Demand},
    clock::{Clock, SteadyClock, SystemClock},
    denied::Denied,
    deny::{Deny, Refusal},
    deny_http::DenyHttp,
    error::{ReserveError, StoreError},
    future::ResponseFuture,
    grant::Grant,
    layer::{OnStoreFailure, QuotaLayer},
    limit::{Allowance, DuplicateLimit, Limit, Limits},
    policy::QuotaPolicy,
    reservation::Reservation,
    service::Quota,
    shadow::Shadow,
    standing::Standing,
    store::{Granted, QuotaStore, Released, Renewed, Settled},
    store_future::StoreFuture,
    subject::Subject,
    terms::{Plans, Terms},
    ticket::{ParseTicketError, Ticket},
    time_zone::{TimeZone, UnknownTimeZone},
    window::{Period, Window},
};
