//! OpenAI chat completions: reading the request, metering the answer.
//!
//! Two halves that go together. [`ModelCallLayer`] belongs outside whatever decides by the request (a quota): it reads
//! the body once and puts a [`ModelCall`] into the extensions. [`ModelMeter`] belongs innermost, next to the provider:
//! it follows the answer to its end and records it.

mod answer;
mod call;
mod estimate;
mod name;
mod refusal;

#[cfg(feature = "tokio")]
pub use self::answer::Drain;
pub(crate) use self::answer::{Metering, Rescue};
pub use self::{
    answer::{Attribution, Leave, ModelMeter, ModelTap, OnLeave},
    call::{CallBody, ModelCall, ModelCallFuture, ModelCallLayer, ModelCallService},
};
