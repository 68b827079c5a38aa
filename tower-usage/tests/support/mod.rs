//! What the tests of the layer share: a sink that keeps, bodies that play, prices that are known.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use ::http::HeaderMap;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower_usage::{Full, PriceEntry, PriceList, Rate, Sink, UsageRecord};

#[cfg(feature = "llm")]
pub mod apis;
#[cfg(feature = "llm")]
pub mod http;

/// A sink that keeps its records, and counts its places.
#[derive(Debug)]
pub struct Kept {
    capacity: usize,
    taken: AtomicUsize,
    records: Mutex<Vec<UsageRecord>>,
}

impl Kept {
    pub fn new() -> Arc<Self> {
        Self::with_capacity(usize::MAX)
    }

    pub fn with_capacity(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            taken: AtomicUsize::new(0),
            records: Mutex::default(),
        })
    }

    pub fn records(&self) -> Vec<UsageRecord> {
        self.records.lock().unwrap().clone()
    }

    /// The one record there is.
    pub fn only(&self) -> UsageRecord {
        let records = self.records();
        assert_eq!(records.len(), 1, "exactly one record of a call");
        assert_eq!(self.taken(), 1, "its place is the only one taken");
        records.into_iter().next().unwrap()
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

impl Sink for Kept {
    fn admit(&self) -> Result<(), Full> {
        let took = self
            .taken
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                (n < self.capacity).then_some(n + 1)
            });
        took.map(drop).map_err(|_| Full::new())
    }

    fn record(&self, record: UsageRecord) {
        self.records.lock().unwrap().push(record);
    }

    fn forgo(&self, _: Option<tower_usage::RecordId>) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body that plays these frames. Panics when it is polled after its end, as a body may.
#[derive(Debug, Default)]
pub struct Play {
    frames: VecDeque<Result<Frame<Bytes>, io::Error>>,
    ended: bool,
    /// Says that it ends with its last frame, as a body of known length does.
    pub knows_its_end: bool,
    /// Never ends, but waits after its last frame.
    pub hangs: bool,
}

impl Play {
    pub fn new<T: Into<Bytes>>(frames: impl IntoIterator<Item = T>) -> Self {
        let frames = frames
            .into_iter()
            .map(|data| Ok(Frame::data(data.into())))
            .collect();
        Self {
            frames,
            ..Self::default()
        }
    }

    /// The bytes in pieces of this size.
    pub fn cut(bytes: &[u8], size: usize) -> Self {
        Self::new(bytes.chunks(size).map(Bytes::copy_from_slice))
    }

    pub fn then_error(mut self) -> Self {
        self.frames
            .push_back(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
        self
    }

    pub fn then_trailers(mut self, trailers: HeaderMap) -> Self {
        self.frames.push_back(Ok(Frame::trailers(trailers)));
        self
    }

    pub fn then_hang(mut self) -> Self {
        self.hangs = true;
        self
    }

    pub fn knowing_its_end(mut self) -> Self {
        self.knows_its_end = true;
        self
    }
}

impl Body for Play {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        assert!(!self.ended, "polled after its end");
        match self.frames.pop_front() {
            None if self.hangs => Poll::Pending,
            frame => {
                self.ended = frame.is_none();
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.knows_its_end {
            return SizeHint::default();
        }
        let len = self
            .frames
            .iter()
            .flatten()
            .filter_map(Frame::data_ref)
            .map(Bytes::len)
            .sum::<usize>();
        SizeHint::with_exact(len as u64)
    }
}

pub fn time(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}

/// `m` costs 1 dollar in, 2 out, half for the cache.
pub fn prices() -> Arc<PriceList> {
    let rate = Rate::new("1.00".parse().unwrap(), "2.00".parse().unwrap())
        .cache_read("0.50".parse().unwrap());
    Arc::new(PriceList::new([PriceEntry::new("m", rate)]).unwrap())
}
