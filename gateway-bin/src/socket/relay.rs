//! Frames between a client and an instance.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Map;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Sink, SinkExt, Stream};
use metrics::{Counter, counter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, Interval, Sleep, interval_at, sleep, timeout};
use tokio_util::sync::{CancellationToken, PollSemaphore, WaitForCancellationFutureOwned};
use tokio_websockets::{Message, WebSocketStream};
use tower_service::Service;
use tower_sso::{VerifyError, VerifyFuture};

use super::credential::Credential;
use super::end::End;
use super::owned::Owned;
use crate::config::Secret;
use crate::instance::{Gate, Socket};
use crate::protocol::{
    ClientRequest, ErrorShape, FrameError, InstanceFrame, Kind, LastShown, Owner, Policy, Renumber,
    Scope, View, error_response, event_scope, parse_cell_request, parse_request, response,
};
use crate::rpc::{Outgoing, Reply, RpcRequest, RpcResponse, StartedRun, Turn};

/// Most requests of one socket that may wait for their answer; then no more are read.
const MAX_IN_FLIGHT: usize = 64;

/// How long a side may take nothing of what there is for it.
const STALL: Duration = Duration::from_secs(120);

/// How often a client is pinged; one that has said nothing between two pings is gone.
const PING: Duration = Duration::from_secs(45);

/// How long the instance may take to read what was queued for it when the client left.
const FAREWELL: Duration = Duration::from_secs(2);

/// One client, one instance, and the stack through which every request frame passes.
#[derive(Debug)]
pub struct Relay<C, S>
where
    S: Service<RpcRequest>,
{
    client: WebSocketStream<C>,
    instance: Socket,
    stack: S,
    credential: Credential,
    /// A credential that is to take the place of that one, and the request that brought it.
    renewal: Option<(Box<str>, VerifyFuture)>,
    owner: Owner,
    policy: Policy,
    turns: PollSemaphore,
    turn: Option<Turn>,
    /// Requests inside the stack, the answered ones leave it in any order.
    in_flight: FuturesUnordered<InFlight<S::Future>>,
    /// How many of them start a run.
    starting: usize,
    /// What the innermost service has queued for the instance.
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    /// Requests that the instance has and has not answered.
    waiting: HashMap<Box<str>, (View, oneshot::Sender<Reply>)>,
    owned: Owned,
    renumber: Renumber,
    last_shown: LastShown,
    counters: FrameCounters,
    gate: Gate,
    /// When a side that does not read is given up; set while one does not.
    stalled: Option<Pin<Box<Sleep>>>,
    pings: Interval,
    /// Whether the client has sent anything since the last ping.
    heard: bool,
    stop: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    leave: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    is_leaving: bool,
}

/// A request inside the stack, and at its end whether it was one that starts a run.
type InFlight<F> = Map<F, fn(<F as Future>::Output) -> (bool, <F as Future>::Output)>;

/// Counts frames by what they are; looked up once for each socket, not for each frame.
#[derive(Debug)]
struct FrameCounters {
    requests: Counter,
    responses: Counter,
    events: Counter,
    unread: Counter,
}

// === impl Relay ===

impl<C, S> Relay<C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: Service<RpcRequest, Response = RpcResponse, Error = Infallible>,
{
    /// A relay between two sockets whose handshakes are done. `outgoing` is what the innermost service of `stack`
    /// queues, and `gate` the one that it goes through.
    pub fn new(
        client: WebSocketStream<C>,
        instance: Socket,
        stack: S,
        outgoing: mpsc::UnboundedReceiver<Outgoing>,
        credential: Credential,
        owner: Owner,
        gate: Gate,
    ) -> Self {
        Self {
            client,
            instance,
            stack,
            credential,
            renewal: None,
            owner,
            policy: Policy::Pool,
            turns: PollSemaphore::new(Arc::new(Semaphore::new(1))),
            turn: None,
            in_flight: FuturesUnordered::new(),
            starting: 0,
            outgoing,
            waiting: HashMap::new(),
            owned: Owned::default(),
            renumber: Renumber::default(),
            last_shown: LastShown::default(),
            counters: FrameCounters::new(),
            gate,
            stalled: None,
            pings: interval_at(Instant::now() + PING, PING),
            heard: true,
            stop: None,
            leave: None,
            is_leaving: false,
        }
    }

    /// By what column of the table frames are judged. In a cell, what the instance sends is passed on unread: all of it is
    /// its person's.
    #[must_use]
    pub const fn under(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Ends the relay at once when `stop` is cancelled: the gateway or the instance is gone.
    #[must_use]
    pub fn stopped_by(mut self, stop: CancellationToken) -> Self {
        self.stop = Some(Box::pin(stop.cancelled_owned()));
        self
    }

    /// Ends the relay when `leave` is cancelled and every frame of the client's that starts a run is answered: whoever has
    /// its answer need not ask whether there is a run. Nothing more is read from the client then.
    ///
    /// What a cell answers passes unread, so there nobody waits for it.
    #[must_use]
    pub fn leaving_on(mut self, leave: CancellationToken) -> Self {
        self.leave = Some(Box::pin(leave.cancelled_owned()));
        self
    }

    /// Relays until one side ends, and gives the client's side back to be closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops both sockets; requests inside the stack are dropped with it.
    pub async fn run(mut self) -> (WebSocketStream<C>, End) {
        let end = poll_fn(|cx| self.poll(cx)).await;
        let Self {
            mut client,
            mut instance,
            ..
        } = self;
        // At once: a client whose sign-in is over does not go on until a slow instance has been left.
        let told = async {
            if let Some(close) = end.close() {
                let _ = timeout(FAREWELL, client.send(close)).await;
            }
        };
        let left = async {
            if !matches!(end, End::Instance(..)) {
                // What the client said last was admitted and is queued.
                let _ = timeout(FAREWELL, instance.close()).await;
            }
        };
        tokio::join!(told, left);
        (client, end)
    }

    /// Moves what can be moved without waiting, and only then flushes: the number of writes, not the codec, is what a
    /// frame costs.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if is_told(&mut self.stop, cx) {
            return Poll::Ready(End::Shutdown);
        }
        self.is_leaving |= is_told(&mut self.leave, cx);
        if let Poll::Ready(end) = self.credential.poll_end(cx) {
            return Poll::Ready(end);
        }
        loop {
            let mut moved = false;
            for step in [
                Self::renew,
                Self::send_answers,
                Self::read_instance,
                Self::read_client,
                Self::send_outgoing,
            ] {
                match step(self, cx) {
                    Ok(some) => moved |= some,
                    Err(end) => return Poll::Ready(end),
                }
            }
            if !moved {
                break;
            }
        }
        if self.is_leaving && self.starting == 0 {
            return Poll::Ready(End::Shutdown);
        }
        self.flush(cx)
    }

    /// Writes what is queued to both sides, and sees whether they live.
    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.pings.poll_tick(cx).is_ready() {
            let takes = self.client_takes(cx).is_ok_and(|takes| takes);
            // Only of one that we read from can we say that it says nothing.
            let reads = takes && self.outgoing.is_empty() && self.in_flight.len() < MAX_IN_FLIGHT;
            if reads && !self.heard {
                return Poll::Ready(End::Client);
            }
            self.heard = !reads;
            if takes {
                let _ = self.forward_client(Message::ping(""));
            }
            // The next tick is polled for, so that it wakes us.
            let _ = self.pings.poll_tick(cx);
        }
        let client = match Pin::new(&mut self.client).poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => return Poll::Ready(End::Client),
            Poll::Pending => false,
        };
        let instance = match Pin::new(&mut self.instance).poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => return Poll::Ready(instance_gone()),
            Poll::Pending => false,
        };
        if client && instance {
            self.stalled = None;
            return Poll::Pending;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL)));
        if stalled.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(if client {
            instance_gone()
        } else {
            End::Protocol(1008, "slow consumer")
        })
    }

    /// Takes another credential when it is verified.
    fn renew(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.renewal.is_none() || !self.client_takes(cx)? {
            return Ok(false);
        }
        let Some((id, verdict)) = &mut self.renewal else {
            return Ok(false);
        };
        let Poll::Ready(verdict) = Pin::new(verdict).poll(cx) else {
            return Ok(false);
        };
        let id = std::mem::take(id);
        self.renewal = None;
        let answer = match verdict {
            Ok(identity) => {
                let expires_at = identity.expires_at().map(crate::api::rfc3339);
                match self.credential.renew(identity) {
                    true => response(
                        &id,
                        &serde_json::json!({ "expiresAt": expires_at }).to_string(),
                    ),
                    false => error_response(
                        &id,
                        &ErrorShape::new("FORBIDDEN", "this token is somebody else's"),
                    ),
                }
            }
            Err(VerifyError::Unavailable) => {
                let error = ErrorShape::unavailable("sign-in cannot be checked right now", 2_000);
                error_response(&id, &error)
            }
            Err(_) => error_response(
                &id,
                &ErrorShape::new("INVALID_REQUEST", "unauthorized").detail("AUTH_UNAUTHORIZED"),
            ),
        };
        self.send_client(answer)?;
        Ok(true)
    }

    /// Begins to verify the credential of a renewal: one at a time.
    fn begin_renewal(&mut self, id: Box<str>, token: &Secret) -> Result<(), End> {
        let Some(verdict) = self
            .credential
            .verify(token)
            .filter(|_| self.renewal.is_none())
        else {
            let error = ErrorShape::new("INVALID_REQUEST", "this socket is not renewed now");
            return self.send_client(error_response(&id, &error));
        };
        self.renewal = Some((id, verdict));
        Ok(())
    }

    /// Answers of the stack to the client.
    fn send_answers(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        while self.client_takes(cx)? {
            match Pin::new(&mut self.in_flight).poll_next(cx) {
                Poll::Ready(Some(answered)) => self.answer(answered)?,
                Poll::Ready(None) | Poll::Pending => break,
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Events to the client, responses to who waits for them.
    fn read_instance(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        loop {
            // An answer goes out before the events that came behind it.
            moved |= self.send_answers(cx)?;
            if !self.client_takes(cx)? {
                break;
            }
            let message = match Pin::new(&mut self.instance).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(_)) | None) => return Err(instance_gone()),
                Poll::Pending => break,
            };
            moved = true;
            if let Some((code, reason)) = message.as_close() {
                return Err(End::Instance(code.into(), reason.into()));
            }
            let Some(text) = message.as_text() else {
                continue;
            };
            if self.policy == Policy::Cell {
                self.counters.unread.increment(1);
                self.forward_client(message)?;
                continue;
            }
            // What we cannot read we cannot show to be the user's.
            let Ok(frame) = serde_json::from_str::<InstanceFrame<'_>>(text) else {
                continue;
            };
            match frame.kind() {
                Kind::Response {
                    id,
                    ok,
                    status,
                    run_id,
                } => {
                    let Some((view, reply)) = self.waiting.remove(id) else {
                        continue;
                    };
                    let mut shown = None;
                    if ok {
                        self.owned.learn(&frame);
                        if view != View::Whole {
                            // Without an answer whoever waits is told that there is none.
                            let Some((frame, sessions)) = self.owner.response(text, view) else {
                                continue;
                            };
                            self.owned.learn_sessions(&sessions);
                            shown = Some(frame);
                        }
                    }
                    let started_run = if ok && status == Some("started") {
                        run_id.map(StartedRun::from)
                    } else {
                        None
                    };
                    let _ = reply.send(Reply::Response(RpcResponse {
                        text: shown.map_or_else(|| text.into(), String::into_boxed_str),
                        started_run,
                    }));
                    self.counters.responses.increment(1);
                }
                Kind::Event(name) => {
                    let pass = match event_scope(name) {
                        Scope::All => true,
                        Scope::Own => {
                            let own = frame.is_of(&self.owner);
                            if own {
                                self.owned.learn(&frame);
                            }
                            own
                        }
                        Scope::Shown(view) => {
                            let shown = self.last_shown.event(
                                &frame,
                                text,
                                (view, &self.owner),
                                &self.renumber,
                            );
                            if let Some(shown) = shown {
                                self.counters.events.increment(1);
                                self.send_client(shown)?;
                                continue;
                            }
                            false
                        }
                        Scope::Nobody => false,
                    };
                    if !pass {
                        self.renumber.drop_event(&frame);
                        continue;
                    }
                    if frame.ends_run() {
                        self.gate.leave(self.credential.identity().user_id());
                    }
                    self.counters.events.increment(1);
                    match self.renumber.number(&frame, text) {
                        Some(text) => self.send_client(text)?,
                        None => self.forward_client(message)?,
                    }
                }
                Kind::Other => {}
            }
        }
        Ok(moved)
    }

    /// Request frames into the stack, one after the other's turn.
    fn read_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        while !self.is_leaving
            && self.in_flight.len() < MAX_IN_FLIGHT
            && self.outgoing.is_empty()
            && self.client_takes(cx)?
        {
            if self.turn.is_none() {
                match self.turns.poll_acquire(cx) {
                    Poll::Ready(Some(permit)) => self.turn = Some(permit.into()),
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            match self.stack.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending => break,
            }
            let message = match Pin::new(&mut self.client).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return Err(client_error(&error)),
                Poll::Ready(None) => return Err(End::Client),
                Poll::Pending => break,
            };
            moved = true;
            self.heard = true;
            self.credential.used();
            if message.is_close() {
                return Err(End::Client);
            }
            if message.is_binary() {
                return Err(End::Protocol(1003, "text frames only"));
            }
            let Some(text) = message.as_text() else {
                continue;
            };
            self.counters.requests.increment(1);
            match (self.parse(text), self.turn.take()) {
                (Ok(mut frame), Some(turn)) => {
                    if let Some(token) = frame.take_renewal() {
                        self.begin_renewal(frame.id().into(), &token)?;
                        continue;
                    }
                    let tag: fn(_) -> _ = match frame.starts_run() {
                        true => |response| (true, response),
                        false => |response| (false, response),
                    };
                    self.starting += usize::from(frame.starts_run());
                    let request =
                        RpcRequest::new(frame, Arc::clone(self.credential.identity()), turn);
                    self.in_flight.push(self.stack.call(request).map(tag));
                    // Polled at once, so that what is admitted without waiting is queued before the next frame is read.
                    if let Poll::Ready(Some(answered)) = Pin::new(&mut self.in_flight).poll_next(cx)
                    {
                        self.answer(answered)?;
                    }
                }
                (Err(FrameError::Refused { id, refusal }), turn) => {
                    self.turn = turn;
                    metrics::counter!("gateway_refusals_total", "plane" => "ingress", "reason" => "frame").increment(1);
                    self.send_client(error_response(&id, &ErrorShape::from(refusal)))?;
                }
                (Err(_), _) | (Ok(_), None) => return Err(End::Protocol(1007, "invalid frame")),
            }
            if !self.outgoing.is_empty() {
                self.send_outgoing(cx)?;
            }
        }
        Ok(moved)
    }

    fn parse(&self, text: &str) -> Result<ClientRequest, FrameError> {
        if self.policy == Policy::Cell {
            return parse_cell_request(text).map(ClientRequest::from);
        }
        let mut frame = parse_request(text)?;
        let checked = self.owned.check(&frame);
        let checked = checked.and_then(|()| match &self.owner.extended {
            Some(extended) => extended.extend(&mut frame),
            None => Ok(()),
        });
        match checked {
            Ok(()) => Ok(frame.into()),
            Err(refusal) => Err(FrameError::Refused {
                id: frame.id,
                refusal,
            }),
        }
    }

    /// An answer of the stack, unless the instance's own is passed on.
    fn answer(
        &mut self,
        (starts_run, response): (bool, Result<RpcResponse, Infallible>),
    ) -> Result<(), End> {
        self.starting -= usize::from(starts_run);
        let Ok(response) = response;
        match response.text.is_empty() {
            true => Ok(()),
            false => self.send_client(response.text.into_string()),
        }
    }

    /// What the stack has let through to the instance.
    fn send_outgoing(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        loop {
            match Pin::new(&mut self.instance).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(instance_gone()),
                Poll::Pending => break,
            }
            let Poll::Ready(Some(Outgoing {
                id,
                text,
                view,
                reply,
            })) = self.outgoing.poll_recv(cx)
            else {
                break;
            };
            moved = true;
            if self.policy == Policy::Pool {
                if self.waiting.contains_key(&id) {
                    let _ = reply.send(Reply::DuplicateId);
                    continue;
                }
                self.waiting.insert(id, (view, reply));
            }
            Pin::new(&mut self.instance)
                .start_send(Message::text(text))
                .map_err(|_| instance_gone())?;
        }
        Ok(moved)
    }

    /// Whether the client's write buffer has room. A client that does not read stops both directions, and with that
    /// what is held for it in memory.
    fn client_takes(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        match Pin::new(&mut self.client).poll_ready(cx) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(_)) => Err(End::Client),
            Poll::Pending => Ok(false),
        }
    }

    fn send_client(&mut self, text: String) -> Result<(), End> {
        self.forward_client(Message::text(text))
    }

    fn forward_client(&mut self, message: Message) -> Result<(), End> {
        Pin::new(&mut self.client)
            .start_send(message)
            .map_err(|_| End::Client)
    }
}

/// Whether it has been told, whoever else waits to be.
fn is_told(
    told: &mut Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    cx: &mut Context<'_>,
) -> bool {
    let told = told.as_mut();
    told.is_some_and(|told| told.as_mut().poll(cx).is_ready())
}

fn instance_gone() -> End {
    End::Instance(1012, "service restart".into())
}

/// Why a client's stream broke. Where the codec has sent a close frame of its own already, ours is not sent any more.
fn client_error(error: &tokio_websockets::Error) -> End {
    match error {
        tokio_websockets::Error::PayloadTooLong { .. } => End::Protocol(1009, "message too big"),
        tokio_websockets::Error::Protocol(_) => End::Protocol(1002, "protocol error"),
        _ => End::Client,
    }
}

// === impl FrameCounters ===

impl FrameCounters {
    fn new() -> Self {
        Self {
            requests: counter!("gateway_frames_total", "direction" => "in", "kind" => "request"),
            responses: counter!("gateway_frames_total", "direction" => "out", "kind" => "response"),
            events: counter!("gateway_frames_total", "direction" => "out", "kind" => "event"),
            unread: counter!("gateway_frames_total", "direction" => "out", "kind" => "unread"),
        }
    }
}
