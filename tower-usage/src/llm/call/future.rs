use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Request, Response,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING},
    request::Parts,
};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{CallBody, ModelCall, repeatable::repeatable};
use crate::{
    ResponseBody,
    llm::{Api, refusal::Refusal},
};

pin_project! {
    /// Response future of [`ModelCallService`](super::ModelCallService).
    ///
    /// # Cancel safety
    ///
    /// Dropped while the body is being read, it drops what has arrived and nothing was called; dropped later, it drops
    /// the call of the service inside.
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<CallBody>>,
    {
        #[pin]
        state: State<S, S::Future, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, F, B> {
        Read { #[pin] body: B, read: Read, held: Option<(S, Parts)>, api: Result<Api, Refusal> },
        Call { #[pin] call: F },
    }
}

/// The part of a body that has arrived.
struct Read {
    first: Bytes,
    more: BytesMut,
    limit: usize,
}

// === impl ResponseFuture ===

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<CallBody>>,
{
    pub(super) fn new(service: S, req: Request<B>, limit: usize) -> Self {
        let (head, body) = req.into_parts();
        let api = served(&head, limit);
        let read = Read {
            first: Bytes::new(),
            more: BytesMut::new(),
            limit,
        };
        Self {
            state: State::Read {
                body,
                read,
                held: Some((service, head)),
                api,
            },
        }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<CallBody>, Response = Response<R>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let call = match state.as_mut().project() {
                StateProj::Call { call } => {
                    return call.poll(cx).map_ok(|res| res.map(ResponseBody::new));
                }
                StateProj::Read {
                    body,
                    read,
                    held,
                    api,
                } => {
                    let read = match *api {
                        Ok(api) => {
                            ready!(read.poll(body, cx)).and_then(|body| ModelCall::read(api, body))
                        }
                        Err(refusal) => Err(refusal),
                    };
                    // A future must not be polled again once it was ready.
                    let Some((mut service, head)) = held.take() else {
                        return Poll::Pending;
                    };
                    match read {
                        Ok((mut call, body)) => {
                            call.idempotency_key = repeatable(&head.headers, call.api, &body);
                            service.call(request(head, call, body))
                        }
                        Err(refusal) => {
                            let api = Api::of_path(head.uri.path());
                            let api = api.unwrap_or(Api::ChatCompletions);
                            return Poll::Ready(Ok(refusal.into_response(api)));
                        }
                    }
                }
            };
            state.set(State::Call { call });
        }
    }
}

/// The API that is called, unless the head says that the body need not be read.
fn served(head: &Parts, limit: usize) -> Result<Api, Refusal> {
    let api = Api::of_path(head.uri.path()).ok_or(Refusal::UnknownPath)?;
    let headers = &head.headers;
    let coding = headers.get(CONTENT_ENCODING);
    if coding.is_some_and(|coding| coding != "identity") {
        return Err(Refusal::Encoded);
    }
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    if length
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: u64| length > limit as u64)
    {
        return Err(Refusal::TooLarge);
    }
    Ok(api)
}

fn request(mut head: Parts, call: ModelCall, body: Bytes) -> Request<CallBody> {
    head.headers.remove(ACCEPT_ENCODING);
    head.headers.remove(TRANSFER_ENCODING);
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    head.extensions.insert(call);
    Request::from_parts(head, CallBody::from(body))
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<CallBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelCallFuture").finish_non_exhaustive()
    }
}

// === impl Read ===

impl Read {
    fn poll<B>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, Refusal>>
    where
        B: Body<Data = Bytes>,
    {
        if body.size_hint().lower() > self.limit as u64 {
            return Poll::Ready(Err(Refusal::TooLarge));
        }
        loop {
            match ready!(body.as_mut().poll_frame(cx)) {
                None => return Poll::Ready(Ok(self.take())),
                Some(Err(_)) => return Poll::Ready(Err(Refusal::Unreadable)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !self.push(data)
                    {
                        return Poll::Ready(Err(Refusal::TooLarge));
                    }
                }
            }
        }
    }

    /// Whether there was room for these bytes. A body of one frame is not copied.
    fn push(&mut self, data: Bytes) -> bool {
        if self.first.len() + self.more.len() + data.len() > self.limit {
            return false;
        }
        if self.first.is_empty() && self.more.is_empty() {
            self.first = data;
        } else {
            self.more
                .extend_from_slice(&std::mem::take(&mut self.first));
            self.more.extend_from_slice(&data);
        }
        true
    }

    fn take(&mut self) -> Bytes {
        if self.more.is_empty() {
            std::mem::take(&mut self.first)
        } else {
            self.more.split().freeze()
        }
    }
}
