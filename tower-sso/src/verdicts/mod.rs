//! Verdicts that are remembered, and questions that are asked once.

mod cache;
mod era;
mod flight;
mod token_hash;

pub use self::cache::Verdicts;
pub(crate) use self::{era::Era, token_hash::TokenHash};
