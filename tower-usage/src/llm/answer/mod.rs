//! Metering the answer to a chat completion.

mod answer;
mod attribution;
#[cfg(feature = "tokio")]
mod drain;
mod events;
mod leave;
mod meter;
mod metering;
mod reading;
mod tap;
mod text;

#[cfg(feature = "tokio")]
pub use self::drain::Drain;
pub use self::{
    attribution::Attribution,
    leave::{Leave, OnLeave},
    meter::ModelMeter,
    tap::ModelTap,
};
pub(crate) use self::{leave::Rescue, metering::Metering};
