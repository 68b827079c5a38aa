//! Calls of language models over HTTP: reading the request, metering the answer.
//!
//! Four APIs ([`Api`]): OpenAI's chat completions, responses and embeddings, and Anthropic's messages, whole and streamed.
//!
//! Two halves that go together. [`ModelCallLayer`] belongs outside whatever decides by the request (a quota): it reads
//! the body once and puts a [`ModelCall`] into the extensions. [`ModelMeter`] belongs innermost, next to the provider:
//! it follows the answer to its end and records it.

mod answer;
mod api;
mod call;
mod estimate;
mod name;
mod refusal;

#[cfg(feature = "tokio")]
pub use self::answer::Drain;
pub(crate) use self::answer::{Metering, Rescue};
pub use self::{
    answer::{Attribution, Leave, ModelMeter, ModelTap, OnLeave, Refused},
    api::Api,
    call::{CallBody, ModelCall, ModelCallFuture, ModelCallLayer, ModelCallService},
};
