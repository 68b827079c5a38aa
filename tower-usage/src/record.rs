use std::{fmt, sync::Arc, time::SystemTime};

use uuid::Uuid;

use crate::{Clock, NanoUsd, Rate, SystemClock, TokenCounts};

/// One metered event: a model call or a run.
///
/// Made by [`new`](Self::new), then filled in field by field.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UsageRecord {
    /// Which record this is. A ledger keeps one row of an id, however often it is recorded.
    pub id: RecordId,
    /// Who pays.
    pub subject: Arc<str>,
    /// What was done.
    pub operation: Operation,
    /// When it was let in. It is charged to the period of this time, however long it took.
    pub admitted_at: SystemTime,
    /// When it ended.
    pub ended_at: SystemTime,
    /// Who served it.
    pub provider: Option<Arc<str>>,
    /// The model that answered, as the answer says. This one is billed.
    pub model: Option<Arc<str>>,
    /// The model that was asked for.
    pub requested_model: Option<Arc<str>>,
    /// The provider's id of the answer.
    pub response_id: Option<Arc<str>>,
    /// What the call has in common with its repetitions, if its client named it: see
    /// `ModelCall::idempotency_key`. A ledger bills once what is answered by one
    /// and the same answer.
    pub idempotency_key: Option<Arc<str>>,
    /// The run it belongs to.
    pub run_id: Option<Arc<str>>,
    /// The conversation it belongs to.
    pub session_key: Option<Arc<str>>,
    /// Tokens by class.
    pub tokens: TokenCounts,
    /// Runs this record counts: zero for a model call.
    pub calls: u64,
    /// What it costs; `None` if the model has no price, which counts as no money wherever records are added up or
    /// settled.
    pub cost: Option<NanoUsd>,
    /// The rate that `cost` was made with; `None` if there was none, or nothing to price.
    pub rate: Option<Rate>,
    /// How the tokens are known.
    pub source: Source,
    /// How it ended.
    pub outcome: Outcome,
    /// What else is known of the call, as the text of one JSON object. Of a call of a provider that did not end well:
    /// `status`, the HTTP status it refused with, and `error`, its own name for what was wrong (at most 64 of
    /// `A-Za-z0-9_.-`). Of a call whose client left: `"left":true`, and `drained`, whether the rest of the answer was
    /// read all the same, where that was tried. Of a call that the provider says it served in another tier than the
    /// default: `service_tier`, the name of that. Of a repeated call that
    /// was answered by the answer to another: `replay`, the id of the record of that. And what [`price`](Self::price)
    /// marks.
    pub metadata: Option<Arc<str>>,
    /// What the ledger hands to its settler when the record is stored. Opaque to this crate.
    pub settle_ref: Option<Arc<str>>,
    /// The number that a ledger gave it, for its settler: whatever is stored later has a greater one. `None` elsewhere.
    pub number: Option<u64>,
}

/// The id of a record: a UUID of version 7 (RFC 9562 §5.7), so that ids sort by the time they were made.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordId(Uuid);

/// What was done.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// One request to a provider.
    ModelCall,
    /// One turn of a conversation, which makes model calls.
    Run,
}

/// How the tokens of a record are known.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Source {
    /// The provider said so in its answer, or gave none that could have used any.
    Exact,
    /// The provider did not say; they were estimated from what went by.
    Estimated,
    /// What the provider said cannot be: a count that is negative, no whole number or absurdly large, or counts that
    /// contradict each other. They were estimated from what went by.
    Invalid,
    /// Somebody else saw the answer and reported it afterwards.
    Observed,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was answered to the end.
    Complete,
    /// The client left before the end.
    Aborted,
    /// The provider refused, failed or broke off.
    Failed,
    /// It was refused before it reached a provider.
    Refused,
}

// === impl UsageRecord ===

impl UsageRecord {
    /// A record of one operation with a new id.
    ///
    /// Both times are now, by the clock of the machine; nothing was used; the outcome is [`Outcome::Complete`], the
    /// source [`Source::Exact`], and a run counts as one.
    #[must_use]
    pub fn new(subject: Arc<str>, operation: Operation) -> Self {
        Self::at(SystemClock.now(), subject, operation)
    }

    pub(crate) fn at(now: SystemTime, subject: Arc<str>, operation: Operation) -> Self {
        Self {
            id: RecordId::new(),
            subject,
            operation,
            admitted_at: now,
            ended_at: now,
            provider: None,
            model: None,
            requested_model: None,
            response_id: None,
            idempotency_key: None,
            run_id: None,
            session_key: None,
            tokens: TokenCounts::default(),
            calls: u64::from(operation == Operation::Run),
            cost: None,
            rate: None,
            source: Source::Exact,
            outcome: Outcome::Complete,
            metadata: None,
            settle_ref: None,
            number: None,
        }
    }
}

// === impl RecordId ===

impl RecordId {
    /// A new id.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a default value is expected to be the same each time"
    )]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id with these 128 bits.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// The 128 bits.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({})", self.0)
    }
}

impl std::str::FromStr for RecordId {
    type Err = InvalidRecordId;

    fn from_str(text: &str) -> Result<Self, InvalidRecordId> {
        Uuid::parse_str(text).map(Self).map_err(|_| InvalidRecordId)
    }
}

/// The text is not the id of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a record id")]
#[non_exhaustive]
pub struct InvalidRecordId;

// === impl Operation, Source, Outcome ===

/// The stored and shown name of each variant, and back.
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            /// The name under which it is stored and shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The variant with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

names!(Operation { ModelCall = "model_call", Run = "run" });
names!(Source { Exact = "exact", Estimated = "estimated", Invalid = "invalid", Observed = "observed" });
names!(Outcome { Complete = "complete", Aborted = "aborted", Failed = "failed", Refused = "refused" });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_sorted_and_read_back() {
        let ids: Vec<_> = (0..1_000).map(|_| RecordId::new()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(ids[0].to_string().parse(), Ok(ids[0]));
        assert_eq!("x".parse::<RecordId>(), Err(InvalidRecordId));
    }

    #[test]
    fn a_run_counts_once_and_a_model_call_not_at_all() {
        assert_eq!(UsageRecord::new("u".into(), Operation::Run).calls, 1);
        assert_eq!(UsageRecord::new("u".into(), Operation::ModelCall).calls, 0);
    }
}
