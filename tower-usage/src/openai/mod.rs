//! OpenAI chat completions: reading the request, metering the answer.
//!
//! Two halves that go together. [`ModelCallLayer`] belongs outside whatever decides by the request (a quota): it reads
//! the body once and puts a [`ModelCall`] into the extensions. [`ChatMeter`] belongs innermost, next to the provider:
//! it follows the answer to its end and records it.

mod chat;
mod estimate;
mod model_call;
mod name;
mod refusal;

#[cfg(feature = "tokio")]
pub use self::chat::Drain;
pub(crate) use self::chat::{Metering, Rescue};
pub use self::{
    chat::{Attribution, ChatMeter, ChatTap, Leave, OnLeave},
    model_call::{CallBody, ModelCall, ModelCallFuture, ModelCallLayer, ModelCallService},
};
