use tokio::sync::{mpsc::UnboundedSender, oneshot};

#[cfg(feature = "postgres")]
use super::outbox::{Refused, Shipped};
use super::{backlog::Owed, joins::Join, ledger::Mark, reprice::Reprice, row::Settled};
use crate::{Full, RecordId, UsageRecord};

/// What the writer is asked to do, in the order it is asked.
#[derive(Debug)]
pub(super) enum Command {
    /// Keep a record of a call that begins, and answer whether that was done.
    Begin(UsageRecord, oneshot::Sender<Result<(), Full>>),
    /// Forget what was kept of a call.
    Forget(RecordId),
    /// Store a record.
    Record(UsageRecord, Owed),
    /// Join a run to its answer.
    Join(Join),
    /// Mark what was settled.
    Settled(Vec<Done>),
    /// From now on hand what is stored to this settler, and read to it what was left over.
    Settle(UnboundedSender<ToSettle>),
    /// Read the next of what was left over.
    Replay {
        /// Where the last page ended.
        after: i64,
    },
    /// Keep how far the ledger is under this name, unless something is, and answer what is.
    Mark(String, oneshot::Sender<Mark>),
    /// Price what has no price yet, a page of it, and answer what that changed.
    Reprice(Reprice),
    /// Keep what is changed from now on, to be shipped, and answer when that has begun.
    #[cfg(feature = "postgres")]
    Ship(oneshot::Sender<()>),
    /// Note how far everything was shipped, but for these, and answer when it is stored.
    #[cfg(feature = "postgres")]
    Shipped(Shipped, Vec<Refused>, oneshot::Sender<()>),
    /// Answer when all that was recorded before is stored and settled.
    Flush(oneshot::Sender<()>),
    /// Answer: the settler has come so far.
    Flushed(oneshot::Sender<()>),
    /// End.
    Close(Option<oneshot::Sender<()>>),
}

/// A row that was settled.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) seq: i64,
    pub(super) settled: Settled,
    /// Dropped when the mark is stored.
    pub(super) _owed: Owed,
}

/// What the settler is given, in the order it was stored.
#[derive(Debug)]
pub(super) enum ToSettle {
    /// Just stored.
    Stored(Vec<Unsettled>),
    /// Left over from before.
    LeftOver {
        /// What is to be settled.
        page: Vec<Unsettled>,
        /// The last row of the page; `None` if there are no more.
        last: Option<i64>,
    },
    /// Answer when all given before is settled.
    Flush(oneshot::Sender<()>),
}

/// A stored record that is to be settled.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) seq: i64,
    pub(super) record: UsageRecord,
    pub(super) owed: Owed,
}

// === impl Command ===

impl Command {
    /// Whether it is part of a transaction with others.
    pub(super) const fn is_write(&self) -> bool {
        match self {
            Self::Begin(..)
            | Self::Forget(_)
            | Self::Record(..)
            | Self::Join(_)
            | Self::Settled(_) => true,
            #[cfg(feature = "postgres")]
            Self::Ship(_) | Self::Shipped(..) => true,
            _ => false,
        }
    }

    /// Whether it writes the file, with others or by itself.
    pub(super) const fn writes(&self) -> bool {
        self.is_write() || matches!(self, Self::Mark(..) | Self::Reprice(_))
    }
}

// === impl Unsettled ===

impl Unsettled {
    pub(super) fn new(seq: i64, mut record: UsageRecord, owed: Owed) -> Self {
        record.number = u64::try_from(seq).ok();
        Self { seq, record, owed }
    }
}
