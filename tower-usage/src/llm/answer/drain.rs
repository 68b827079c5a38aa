use std::{
    future::poll_fn,
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use tokio::{runtime::Handle, time::timeout};

use super::{
    Metering, OnLeave, Rescue,
    leave::{Bound, sealed::Sealed},
};
use crate::Outcome;

/// Reads the rest of the answer on, within a bound. Made by [`ModelMeter::drain`](super::ModelMeter::drain).
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    bound: Bound,
}

// === impl Drain ===

impl Drain {
    pub(super) const fn new(time: Duration, bytes: usize) -> Self {
        Self {
            bound: Bound { time, bytes },
        }
    }
}

impl Sealed for Drain {}

impl<B> OnLeave<B> for Drain
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    fn rescue(&self) -> Option<Rescue<B>> {
        Some(Rescue {
            take: rescue,
            bound: self.bound,
        })
    }
}

/// Moves the body into a task that reads it on. Without a runtime the call is recorded as it stands.
fn rescue<B>(body: Pin<&mut Option<B>>, mut metering: Metering, bound: Bound)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    metering.leave();
    let (Some(body), Ok(runtime)) = (body.get_mut().take(), Handle::try_current()) else {
        return;
    };
    // A runtime that is shutting down drops the task, which records the call, too.
    runtime.spawn(async move {
        let mut metering = metering;
        let read_on = timeout(bound.time, read_on(body, &mut metering, bound.bytes)).await;
        metering.drained(read_on == Ok(true));
        metering.close(Outcome::Aborted);
    });
}

/// Reads to the end of the body, an error, or the bound; true for the end.
async fn read_on<B>(body: B, metering: &mut Metering, mut bytes: usize) -> bool
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    loop {
        let frame = match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return false,
            None => return true,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let Some(left) = bytes.checked_sub(data.len()) else {
            return false;
        };
        bytes = left;
        metering.data(data);
        if metering.is_broken() {
            return false;
        }
        if metering.is_done() || body.is_end_stream() {
            return true;
        }
    }
}
