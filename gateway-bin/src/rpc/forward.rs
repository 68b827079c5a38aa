use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, oneshot};
use tower_service::Service;

use super::message::{RpcRequest, RpcResponse};
use crate::environment::agent_id;
use crate::protocol::{ErrorShape, error_response};

/// The innermost service of a socket: writes a frame anew for the instance and waits for its response.
#[derive(Clone, Debug)]
pub struct Forward {
    instance: mpsc::UnboundedSender<Outgoing>,
}

/// A frame for the instance. How many there can be is bounded by the socket, which reads no frame while some are
/// unsent.
#[derive(Debug)]
pub struct Outgoing {
    /// `id` of the request.
    pub id: Box<str>,
    /// The frame.
    pub text: String,
    /// Gets the response.
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
#[derive(Debug)]
pub struct ForwardFuture {
    state: State,
}

#[derive(Debug)]
enum State {
    Refused(Option<RpcResponse>),
    Waiting {
        id: Box<str>,
        reply: oneshot::Receiver<Reply>,
    },
}

// === impl Forward ===

impl Forward {
    /// A service that queues frames for an instance.
    #[must_use]
    pub fn new(instance: mpsc::UnboundedSender<Outgoing>) -> Self {
        Self { instance }
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
        let refused = |req: &RpcRequest, error: ErrorShape| ForwardFuture {
            state: State::Refused(Some(req.refuse(&error))),
        };
        // Without a workspace nobody has a session: a stack that lost its workspace layer forwards nothing.
        let Some(workspace) = req.workspace.take() else {
            return refused(
                &req,
                ErrorShape::new("FORBIDDEN", "you have no workspace here yet"),
            );
        };
        let agent = agent_id(&workspace);
        let Some(session) = req.frame.session_of(&agent) else {
            metrics::counter!("gateway_refusals_total", "plane" => "ingress", "reason" => "foreign_session").increment(1);
            return refused(
                &req,
                ErrorShape::new("FORBIDDEN", "this session was not found"),
            );
        };
        let text = req.frame.to_frame(&session, &agent);
        let (reply, answered) = oneshot::channel();
        let id = req.frame.id.clone();
        if self
            .instance
            .send(Outgoing {
                id: id.clone(),
                text,
                reply,
            })
            .is_err()
        {
            return refused(&req, gone());
        }
        // Queued: the next frame may follow.
        drop(req.turn.take());
        ForwardFuture {
            state: State::Waiting {
                id,
                reply: answered,
            },
        }
    }
}

fn gone() -> ErrorShape {
    ErrorShape::unavailable("the assistant's gateway is not reachable", 2_000)
}

// === impl ForwardFuture ===

impl Future for ForwardFuture {
    type Output = Result<RpcResponse, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match &mut self.state {
            State::Refused(response) => {
                // Polled again after it was ready: the contract of futures allows anything but a panic here.
                response.take().unwrap_or(RpcResponse {
                    text: Box::default(),
                    started_run: None,
                })
            }
            State::Waiting { id, reply } => {
                let error = match ready!(Pin::new(reply).poll(cx)) {
                    Ok(Reply::Response(response)) => return Poll::Ready(Ok(response)),
                    Ok(Reply::DuplicateId) => ErrorShape::new(
                        "INVALID_REQUEST",
                        "a request of the same id has not been answered yet",
                    ),
                    Err(_) => gone(),
                };
                RpcResponse {
                    text: error_response(id, &error).into(),
                    started_run: None,
                }
            }
        }))
    }
}
