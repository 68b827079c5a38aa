use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    Outcome,
    llm::{Metering, Rescue},
};

pin_project! {
    /// Response body of the HTTP layers of this crate: the inner body, metered or as it is, or a refusal.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Plain { #[pin] body: B },
        Metered { #[pin] body: Metered<B> },
        Refusal { bytes: Bytes },
    }
}

pin_project! {
    /// Meters a body. The call is recorded at the first of: its end, an error, its drop.
    struct Metered<B> {
        // Empty once the body has ended, or was moved out to be read on.
        #[pin]
        body: Option<B>,
        // Empty once the call is recorded.
        metering: Option<Metering>,
        rescue: Option<Rescue<B>>,
        // Trailers that wait for what was held back before them.
        trailers: Option<HeaderMap>,
    }

    impl<B> PinnedDrop for Metered<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let Some(metering) = this.metering.take() else { return };
            // Without a rescue the metering records the call by being dropped.
            if let Some(rescue) = this.rescue.take()
                && !metering.is_done()
            {
                (rescue.take)(this.body, metering, rescue.bound);
            }
        }
    }
}

// === impl ResponseBody ===

impl<B> ResponseBody<B> {
    /// The inner body, as it is.
    #[must_use]
    pub const fn new(body: B) -> Self {
        Self {
            kind: Kind::Plain { body },
        }
    }

    /// The whole body of a refusal.
    #[must_use]
    pub const fn full(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Refusal { bytes },
        }
    }

    pub(crate) fn metered(body: B, mut metering: Metering, rescue: Option<Rescue<B>>) -> Self
    where
        B: Body,
    {
        // An empty body may never be polled.
        if body.is_end_stream() {
            metering.end();
            metering.close(Outcome::Complete);
            return Self::new(body);
        }
        let body = Metered {
            body: Some(body),
            metering: Some(metering),
            rescue,
            trailers: None,
        };
        Self {
            kind: Kind::Metered { body },
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Plain { body } => body.poll_frame(cx),
            KindProj::Metered { body } => body.poll_frame(cx),
            KindProj::Refusal { bytes } => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Plain { body } => body.is_end_stream(),
            Kind::Metered { body } => body.is_end_stream(),
            Kind::Refusal { bytes } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Plain { body } => body.size_hint(),
            Kind::Metered { body } => body.size_hint(),
            Kind::Refusal { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

// === impl Metered ===

impl<B> Body for Metered<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        if let Some(trailers) = this.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        loop {
            let Some(mut body) = this.body.as_mut().as_pin_mut() else {
                return Poll::Ready(None);
            };
            let polled = ready!(body.as_mut().poll_frame(cx));
            let Some(metering) = this.metering.as_mut() else {
                return Poll::Ready(polled);
            };
            let held = match polled {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let was_empty = data.is_empty();
                        let mut out = metering.data(data);
                        if metering.is_broken() {
                            this.body.set(None);
                            close(this.metering, Outcome::Failed);
                            return Poll::Ready(Some(Ok(Frame::data(out))));
                        }
                        let ended = body.is_end_stream();
                        if ended {
                            out = join(out, metering.end());
                            close(this.metering, Outcome::Complete);
                        }
                        if out.is_empty() && !was_empty {
                            continue;
                        }
                        return Poll::Ready(Some(Ok(Frame::data(out))));
                    }
                    Err(frame) => {
                        let held = metering.end();
                        if held.is_empty() {
                            close(this.metering, Outcome::Complete);
                            return Poll::Ready(Some(Ok(frame)));
                        }
                        *this.trailers = frame.into_trailers().ok();
                        held
                    }
                },
                Some(Err(error)) => {
                    close(this.metering, Outcome::Failed);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let held = metering.end();
                    // What is held goes out after its end, and a body that has ended must not be polled again.
                    this.body.set(None);
                    held
                }
            };
            close(this.metering, Outcome::Complete);
            return Poll::Ready((!held.is_empty()).then(|| Ok(Frame::data(held))));
        }
    }

    fn is_end_stream(&self) -> bool {
        let body = self.body.as_ref().is_none_or(Body::is_end_stream);
        body && self.metering.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let ended = || SizeHint::with_exact(0);
        let mut hint = self.body.as_ref().map_or_else(ended, Body::size_hint);
        if let Some(metering) = &self.metering
            && metering.edits()
        {
            let upper = hint.upper().and_then(|upper| metering.most(upper));
            hint = SizeHint::new();
            if let Some(upper) = upper {
                hint.set_upper(upper);
            }
        }
        hint
    }
}

fn close(metering: &mut Option<Metering>, outcome: Outcome) {
    if let Some(metering) = metering.take() {
        metering.close(outcome);
    }
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, false) => second,
        (false, false) => [first, second].concat().into(),
    }
}
