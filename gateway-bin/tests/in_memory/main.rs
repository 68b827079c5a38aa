//! The stacks and the relay with nothing around them but memory and loopback.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a fixture that cannot be made is a failed test"
)]

mod cell;
mod fixture;
mod relay;
mod stack;
