use std::{pin::Pin, time::Duration};

use super::Metering;

/// What a meter does with an answer whose client leaves before its end: [`Leave`] it, or `Drain` it.
///
/// Sealed: implemented by those two.
pub trait OnLeave<B>: sealed::Sealed {
    #[doc(hidden)]
    fn rescue(&self) -> Option<Rescue<B>>;
}

/// Leaves the answer where the client left it. The rest is estimated to be nothing.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Leave;

/// How the rest of a body is read on.
///
/// A function pointer made where the body's bounds are known, so that a body wrapper needs none of them.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
#[expect(unnameable_types, reason = "only this crate may make one")]
pub struct Rescue<B> {
    pub(crate) take: fn(Pin<&mut Option<B>>, Metering, Bound),
    pub(crate) bound: Bound,
}

/// How long and how much is read on.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "read by `Drain`"))]
pub(crate) struct Bound {
    pub(crate) time: Duration,
    pub(crate) bytes: usize,
}

pub(crate) mod sealed {
    #[expect(unnameable_types, reason = "only this crate may implement it")]
    pub trait Sealed {}
}

// === impl Leave ===

impl sealed::Sealed for Leave {}

impl<B> OnLeave<B> for Leave {
    fn rescue(&self) -> Option<Rescue<B>> {
        None
    }
}
