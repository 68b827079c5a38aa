//! Records as lines of JSON.

mod line;
mod sink;
mod writer;

pub use self::sink::JsonLines;
