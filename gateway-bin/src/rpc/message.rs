use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tower_quota::{Carry, Reservation};
use tower_sso::Identity;
use tower_workspace::Workspace;

use crate::protocol::{ClientRequest, ErrorShape, error_response};
use crate::telemetry::context;
use crate::telemetry::trace::{Role, Span, TraceParent};

/// A request frame on its way inward, with what the layers have put to it.
#[derive(Debug)]
pub struct RpcRequest {
    /// The frame.
    pub frame: ClientRequest,
    /// Whose socket it came on.
    pub identity: Arc<Identity>,
    /// Where the user works; put in by the workspace layer.
    pub workspace: Option<Arc<Workspace>>,
    /// What the quota layer has set aside.
    pub reservation: Option<Reservation>,
    /// Its turn among the frames of the socket.
    pub turn: Option<Turn>,
    /// What is told of it to whoever watches, where it starts a run.
    pub span: Span,
}

/// The right to be the next frame towards the instance: taken before a frame enters the stack and given back when the
/// frame is queued or refused, so that frames keep their order although admission may wait.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// A response frame.
#[derive(Debug)]
pub struct RpcResponse {
    /// The frame's text; empty where the instance's own goes to the client unread.
    pub text: Box<str>,
    /// The run that the request started.
    pub started_run: Option<StartedRun>,
}

/// A run that was started, and its id if that is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StartedRun(Option<Arc<str>>);

/// The span of a run starter, which the instance is told in place of the client's own. One without is the beginning of a
/// trace: a socket lives for hours, and its runs are not all one.
fn span_of(frame: &mut ClientRequest) -> Span {
    if Span::is_off() || !frame.starts_run() {
        return Span::NONE;
    }
    let parent: Option<TraceParent> = frame.traceparent().and_then(|text| text.parse().ok());
    let mut span = Span::begin("run", Role::Server, parent);
    let Some(own) = span.context() else {
        return span;
    };
    frame.set_traceparent(own.to_string());
    span.link(context::trace());
    span.text("rpc.method", || frame.method());
    let user = context::current().and_then(|current| current.user());
    if let Some(user) = user {
        span.text("enduser.pseudo.id", || user.to_string());
    }
    span.fail("no run was started");
    span
}

// === impl RpcRequest ===

impl RpcRequest {
    /// A frame as it enters the stack.
    #[must_use]
    pub fn new(frame: impl Into<ClientRequest>, identity: Arc<Identity>, turn: Turn) -> Self {
        let mut frame = frame.into();
        let span = span_of(&mut frame);
        Self {
            frame,
            identity,
            workspace: None,
            reservation: None,
            turn: Some(turn),
            span,
        }
    }

    /// The answer that refuses this frame.
    #[must_use]
    pub fn refuse(&self, error: &ErrorShape) -> RpcResponse {
        RpcResponse {
            text: error_response(self.frame.id(), error).into(),
            started_run: None,
        }
    }
}

// === impl StartedRun ===

impl StartedRun {
    /// Its id.
    #[must_use]
    pub fn into_id(self) -> Option<Arc<str>> {
        self.0
    }
}

impl From<Option<Arc<str>>> for StartedRun {
    fn from(id: Option<Arc<str>>) -> Self {
        Self(id)
    }
}

impl From<&str> for StartedRun {
    fn from(id: &str) -> Self {
        Self(Some(id.into()))
    }
}

impl Carry<Reservation> for RpcRequest {
    fn carry(&mut self, reservation: Reservation) {
        self.reservation = Some(reservation);
    }
}

// === impl Turn ===

impl From<OwnedSemaphorePermit> for Turn {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit }
    }
}
