//! Traces, told to a collector by OTLP over HTTP (protobuf), where one is configured. Otherwise there is no span, and
//! nothing is paid for any.
//!
//! A span never holds what somebody wrote, who they are, or what they prove it by: names and values are from the code,
//! from the configuration, or numbers.

mod context;
mod export;
mod message;
mod span;

pub use self::context::{NotATraceParent, TraceParent};
pub use self::export::{Exporter, ExporterError};
pub use self::span::{Role, Span};
