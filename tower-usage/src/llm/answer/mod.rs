//! Metering the answer to a model call.

mod attribution;
mod count;
#[cfg_attr(not(feature = "decompression"), path = "undecoded.rs")]
mod decode;
#[cfg(feature = "tokio")]
mod drain;
mod error_name;
mod events;
mod leave;
mod meter;
mod metering;
mod notes;
mod reading;
mod refused;
mod reported;
mod service_tier;
mod stream;
mod tap;
mod text;
mod usage;
mod whole;
mod wire;

#[cfg(feature = "tokio")]
pub use self::drain::Drain;
pub use self::{
    attribution::Attribution,
    leave::{Leave, OnLeave},
    meter::ModelMeter,
    refused::Refused,
    tap::ModelTap,
};
pub(crate) use self::{leave::Rescue, metering::Metering};
