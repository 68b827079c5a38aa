use std::borrow::Cow;
use std::sync::Arc;

use super::cell::CellRequest;
use super::method::Answer;
use super::request::Request;
use super::view::View;
use crate::config::Secret;

/// A request frame of a client, understood as it is where it goes.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientRequest {
    /// In a pool.
    Pool(Request),
    /// In the client's own cell.
    Cell(CellRequest),
}

// === impl ClientRequest ===

impl ClientRequest {
    /// Takes the credential of a renewal out of it.
    pub fn take_renewal(&mut self) -> Option<Secret> {
        match self {
            Self::Pool(request) => request.renewal.take(),
            Self::Cell(request) => request.renewal.take(),
        }
    }

    /// Names the request in its response.
    #[must_use]
    pub const fn id(&self) -> &str {
        match self {
            Self::Pool(request) => &request.id,
            Self::Cell(request) => &request.id,
        }
    }

    /// Whether it starts a run.
    #[must_use]
    pub const fn starts_run(&self) -> bool {
        match self {
            Self::Pool(request) => request.starts_run,
            Self::Cell(request) => request.starts_run,
        }
    }

    /// What is called.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Pool(request) => request.method.name,
            Self::Cell(request) => request.method.name,
        }
    }

    /// W3C trace context of the frame, as the client wrote it.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        match self {
            Self::Pool(request) => request.traceparent.as_deref(),
            Self::Cell(request) => request.traceparent.as_deref(),
        }
    }

    /// What the instance is told in its place.
    pub fn set_traceparent(&mut self, traceparent: String) {
        let traceparent = Some(traceparent.into_boxed_str());
        match self {
            Self::Pool(request) => request.traceparent = traceparent,
            Self::Cell(request) => request.traceparent = traceparent,
        }
    }

    /// The run that a run starter names.
    #[must_use]
    pub const fn run_id(&self) -> Option<&Arc<str>> {
        match self {
            Self::Pool(request) => request.run_id.as_ref(),
            Self::Cell(request) => request.run_id.as_ref(),
        }
    }

    /// The session that it is about, for whoever works with `agent`; in a pool `None` when it is not one of that agent's.
    #[must_use]
    pub fn session_of(&self, agent: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Pool(request) => request.session_of(agent),
            Self::Cell(request) => request.session_of(agent),
        }
    }

    /// Who answers it. What is only answered so that the page of a pool is content, a cell answers itself.
    pub(crate) fn answer(&self) -> Answer {
        match self {
            Self::Pool(request) => request.method.answer,
            Self::Cell(request) => match request.answer() {
                Some(Answer::Renewal) => Answer::Renewal,
                _ => Answer::Instance(View::Whole),
            },
        }
    }
}

impl From<Request> for ClientRequest {
    fn from(request: Request) -> Self {
        Self::Pool(request)
    }
}

impl From<CellRequest> for ClientRequest {
    fn from(request: CellRequest) -> Self {
        Self::Cell(request)
    }
}
