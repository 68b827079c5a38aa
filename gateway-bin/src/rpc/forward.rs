use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, oneshot};
use tower_service::Service;

use super::message::{RpcRequest, RpcResponse, StartedRun, Turn};
use crate::instance::Gate;
use crate::protocol::{Answer, ClientRequest, ErrorShape, View, error_response, response};
use crate::telemetry::trace::Span;

/// The innermost service of a socket: writes a frame anew for the instance and waits for its response.
///
/// A cell's response goes to the client unread, so that nobody knows what became of the frame: it is done with when it is
/// queued, and a run starter has started a run, for which its call stays taken.
#[derive(Clone, Debug)]
pub struct Forward {
    instance: mpsc::UnboundedSender<Outgoing>,
    gate: Gate,
}

/// A frame for the instance. How many there can be is bounded by the socket, which reads no frame while some are
/// unsent.
#[derive(Debug)]
pub struct Outgoing {
    /// `id` of the request.
    pub id: Box<str>,
    /// The frame.
    pub text: String,
    /// What of the response the client may see.
    pub view: View,
    /// Gets the response, if anybody waits for it.
    pub reply: oneshot::Sender<Reply>,
}

/// What became of a frame.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reply {
    /// The instance answered.
    Response(RpcResponse),
    /// A request of the same `id` has not been answered yet.
    DuplicateId,
}

/// Future of [`Forward`].
pub struct ForwardFuture {
    state: State,
    /// The gate and who went through it, for a frame that starts a run.
    entered: Option<(Gate, Arc<str>)>,
    /// Ends with the answer.
    span: Span,
}

enum State {
    /// Answered here.
    Answered(Option<RpcResponse>),
    Held {
        entering: Pin<Box<dyn Future<Output = ()> + Send>>,
        frame: Option<Admitted>,
    },
    Waiting {
        id: Box<str>,
        reply: oneshot::Receiver<Reply>,
    },
}

/// A frame that may go to the instance.
struct Admitted {
    instance: mpsc::UnboundedSender<Outgoing>,
    id: Box<str>,
    text: String,
    view: View,
    /// What its response, if that is not read, is taken to have started.
    unread: Option<Option<StartedRun>>,
    turn: Option<Turn>,
}

// === impl Forward ===

impl Forward {
    /// A service that queues frames for an instance; those that start runs go through its `gate`.
    #[must_use]
    pub fn new(instance: mpsc::UnboundedSender<Outgoing>, gate: Gate) -> Self {
        Self { instance, gate }
    }
}

impl Service<RpcRequest> for Forward {
    type Response = RpcResponse;
    type Error = Infallible;
    type Future = ForwardFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut req: RpcRequest) -> ForwardFuture {
        let view = match req.frame.answer() {
            Answer::Instance(view) => view,
            Answer::Fixed(payload) => {
                return ForwardFuture {
                    state: State::Answered(Some(RpcResponse {
                        text: response(req.frame.id(), payload).into(),
                        started_run: None,
                    })),
                    entered: None,
                    span: Span::NONE,
                };
            }
            // The relay has answered it.
            Answer::Renewal => View::Whole,
        };
        let refused = |req: &RpcRequest, error: ErrorShape| ForwardFuture {
            state: State::Answered(Some(req.refuse(&error))),
            entered: None,
            span: Span::NONE,
        };
        // Without a workspace nobody has a session: a stack that lost its workspace layer forwards nothing.
        let workspace = req.workspace.take();
        let Some(agent) = workspace.as_ref().and_then(|workspace| workspace.slot()) else {
            return refused(
                &req,
                ErrorShape::new("FORBIDDEN", "you have no workspace here yet"),
            );
        };
        let text = match &mut req.frame {
            ClientRequest::Pool(frame) => frame
                .session_of(agent)
                .map(|session| frame.to_frame(&session, agent)),
            ClientRequest::Cell(frame) => Some(frame.take_text()),
        };
        let Some(text) = text else {
            metrics::counter!("gateway_refusals_total", "plane" => "ingress", "reason" => "foreign_session").increment(1);
            return refused(
                &req,
                ErrorShape::new("FORBIDDEN", "this session was not found"),
            );
        };
        let frame = Admitted {
            instance: self.instance.clone(),
            id: req.frame.id().into(),
            text,
            view,
            unread: match &req.frame {
                ClientRequest::Pool(_) => None,
                ClientRequest::Cell(frame) => {
                    let run = || StartedRun::from(frame.run_id.clone());
                    Some(frame.starts_run.then(run))
                }
            },
            turn: req.turn.take(),
        };
        if !req.frame.starts_run() {
            return ForwardFuture {
                state: frame.send(),
                entered: None,
                span: Span::NONE,
            };
        }
        let user_id = req.identity.user_id();
        let state = if self.gate.try_enter(user_id) {
            frame.send()
        } else {
            // Its turn is kept: the frames behind it wait too, and order holds.
            State::Held {
                entering: Box::pin(self.gate.enter(user_id)),
                frame: Some(frame),
            }
        };
        ForwardFuture {
            state,
            entered: Some((self.gate.clone(), Arc::clone(user_id))),
            span: req.span,
        }
    }
}

// === impl Admitted ===

impl Admitted {
    fn send(self) -> State {
        let Self {
            instance,
            id,
            text,
            view,
            unread,
            turn,
        } = self;
        let (reply, answered) = oneshot::channel();
        let sent = instance.send(Outgoing {
            id: id.clone(),
            text,
            view,
            reply,
        });
        // Queued: the next frame may follow.
        drop(turn);
        match (sent, unread) {
            (Ok(()), None) => State::Waiting {
                id,
                reply: answered,
            },
            (Ok(()), Some(started_run)) => State::Answered(Some(RpcResponse {
                text: Box::default(),
                started_run,
            })),
            (Err(_), _) => State::Answered(Some(refusal(&id, &gone()))),
        }
    }
}

fn refusal(id: &str, error: &ErrorShape) -> RpcResponse {
    RpcResponse {
        text: error_response(id, error).into(),
        started_run: None,
    }
}

fn gone() -> ErrorShape {
    ErrorShape::unavailable("the assistant's gateway is not reachable", 2_000)
}

// === impl ForwardFuture ===

impl Future for ForwardFuture {
    type Output = Result<RpcResponse, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let response = match &mut self.state {
                // Polled again after it was ready: the contract of futures allows anything but a panic here.
                State::Answered(response) => {
                    response.take().unwrap_or_else(|| refusal("", &gone()))
                }
                State::Held { entering, frame } => {
                    ready!(entering.as_mut().poll(cx));
                    self.state = frame.take().map_or(State::Answered(None), Admitted::send);
                    continue;
                }
                State::Waiting { id, reply } => match ready!(Pin::new(reply).poll(cx)) {
                    Ok(Reply::Response(response)) => response,
                    Ok(Reply::DuplicateId) => {
                        let message = "a request of the same id has not been answered yet";
                        refusal(id, &ErrorShape::new("INVALID_REQUEST", message))
                    }
                    Err(_) => refusal(id, &gone()),
                },
            };
            if let Some((gate, user_id)) = self
                .entered
                .take()
                .filter(|_| response.started_run.is_none())
            {
                gate.leave(&user_id);
            }
            if response.started_run.is_some() {
                self.span.succeed();
            }
            self.span = Span::NONE;
            return Poll::Ready(Ok(response));
        }
    }
}

impl fmt::Debug for ForwardFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardFuture").finish_non_exhaustive()
    }
}
