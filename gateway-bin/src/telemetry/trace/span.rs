use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::SystemTime;

use super::context::TraceParent;
use super::export::Queue;
use crate::clock;

/// Something that is being done, until it is dropped. Most of the time nobody wants to know of it, and it is one word.
#[derive(Debug, Default)]
#[must_use = "dropped, it has ended"]
pub struct Span(Option<Box<Recording>>);

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// Somebody has asked us.
    Server,
    /// We have asked somebody.
    Client,
}

/// What has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) name: Cow<'static, str>,
    pub(super) role: Role,
    pub(super) own: TraceParent,
    pub(super) parent: Option<[u8; 8]>,
    pub(super) link: Option<TraceParent>,
    pub(super) begin: SystemTime,
    pub(super) end: SystemTime,
    pub(super) texts: Vec<(&'static str, Cow<'static, str>)>,
    pub(super) numbers: Vec<(&'static str, i64)>,
    pub(super) failure: Option<&'static str>,
}

#[derive(Debug)]
struct Recording {
    ended: Option<Ended>,
    queue: &'static Queue,
}

/// Where spans go; empty as long as nobody wants any.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Spans go there from now on.
pub(super) fn install(queue: Queue) -> bool {
    QUEUE.set(queue).is_ok()
}

// === impl Span ===

impl Span {
    /// Nothing that anybody wants to know of.
    pub const NONE: Self = Self(None);

    /// Begins one, as part of the trace of `parent`, or else of a new one.
    pub fn begin(name: &'static str, role: Role, parent: Option<TraceParent>) -> Self {
        match QUEUE.get() {
            Some(queue) => Self::record(queue, name, role, parent),
            None => Self::NONE,
        }
    }

    /// Whether nobody wants any.
    #[must_use]
    pub fn is_off() -> bool {
        QUEUE.get().is_none()
    }

    #[cold]
    fn record(
        queue: &'static Queue,
        name: &'static str,
        role: Role,
        parent: Option<TraceParent>,
    ) -> Self {
        let mut random = [0; 24];
        if aws_lc_rs::rand::fill(&mut random).is_err() {
            return Self::NONE;
        }
        let (Some(trace), Some(span)) = (random.first_chunk::<16>(), random.last_chunk::<8>())
        else {
            return Self::NONE;
        };
        let own = TraceParent {
            trace: parent.map_or(*trace, |parent| parent.trace),
            span: *span,
            is_sampled: true,
        };
        let is_sampled = parent.map_or_else(|| queue.samples(trace), |parent| parent.is_sampled);
        if !is_sampled {
            return Self::NONE;
        }
        let begin = clock::now();
        Self(Some(Box::new(Recording {
            ended: Some(Ended {
                name: name.into(),
                role,
                own,
                parent: parent.map(|parent| parent.span),
                link: None,
                begin,
                end: begin,
                texts: Vec::new(),
                numbers: Vec::new(),
                failure: None,
            }),
            queue,
        })))
    }

    /// Its place in its trace, for what is done on its behalf elsewhere.
    #[must_use]
    pub fn context(&self) -> Option<TraceParent> {
        Some(self.0.as_ref()?.ended.as_ref()?.own)
    }

    /// Is called otherwise, now that it is known what it is.
    pub fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(span) = self.ended() {
            span.name = name().into();
        }
    }

    /// Says where in another trace it comes from.
    pub fn link(&mut self, other: Option<TraceParent>) {
        if let Some(span) = self.ended() {
            span.link = other;
        }
    }

    /// Says something of it, in words that are ours.
    pub fn text<T: Into<Cow<'static, str>>>(
        &mut self,
        key: &'static str,
        value: impl FnOnce() -> T,
    ) {
        if let Some(span) = self.ended() {
            span.texts.push((key, value().into()));
        }
    }

    /// Says a number of it.
    pub fn number(&mut self, key: &'static str, value: i64) {
        if let Some(span) = self.ended() {
            span.numbers.push((key, value));
        }
    }

    /// It has failed, and how.
    pub fn fail(&mut self, how: &'static str) {
        if let Some(span) = self.ended() {
            span.failure = Some(how);
        }
    }

    /// It has not failed after all.
    pub fn succeed(&mut self) {
        if let Some(span) = self.ended() {
            span.failure = None;
        }
    }

    fn ended(&mut self) -> Option<&mut Ended> {
        self.0.as_mut()?.ended.as_mut()
    }
}

// === impl Recording ===

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(mut ended) = self.ended.take() {
            ended.end = clock::now();
            self.queue.put(ended);
        }
    }
}
