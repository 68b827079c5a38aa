//! What queries of a ledger answer, whatever it is kept in.

use std::{sync::Arc, time::SystemTime};

use crate::NanoUsd;

/// What records are added up by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum GroupBy {
    /// The day of admission, in UTC.
    Day,
    /// The model that answered.
    Model,
    /// The conversation.
    Session,
    /// Who pays.
    User,
}

/// What a [`GroupTotal`] is the total of.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Group {
    /// The day that begins at this time, in UTC.
    Day(SystemTime),
    /// This model; `None` where no answer named one.
    Model(Option<Arc<str>>),
    /// This conversation; `None` where none is known.
    Session(Option<Arc<str>>),
    /// This user.
    User(Arc<str>),
}

/// The total of one group.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GroupTotal {
    /// Of what.
    pub group: Group,
    /// How much.
    pub sum: Sum,
}

/// Records added up. A count that was not reported adds nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Sum {
    /// How many records.
    pub records: u64,
    /// Runs.
    pub calls: u64,
    /// Prompt tokens outside of the cache.
    pub input_tokens: u64,
    /// Generated tokens, reasoning included.
    pub output_tokens: u64,
    /// Prompt tokens read from the cache.
    pub cache_read_tokens: u64,
    /// Prompt tokens written to the cache.
    pub cache_write_tokens: u64,
    /// Prompt tokens written to the cache for an hour; part of `cache_write_tokens`.
    pub cache_write_1h_tokens: u64,
    /// Generated tokens of reasoning; part of `output_tokens`.
    pub reasoning_tokens: u64,
    /// What counts as tokens.
    pub total_tokens: u64,
    /// Money. What has no price adds nothing.
    pub cost: NanoUsd,
    /// Records of models without a price.
    pub unpriced: u64,
    /// Records whose tokens are estimated, those of which something impossible was said among them.
    pub estimated: u64,
}
