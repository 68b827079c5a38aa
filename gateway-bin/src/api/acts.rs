//! Administrative acts, noted before or with what they do.

use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Extensions, Method, StatusCode};
use tower_sso::{ClientAddress, Identity};
use tracing::error;

use super::ApiError;
use super::error::ErrorCode;
use super::routes::{Noted, Route, Routes};
use crate::audit::{Act, Actor};
use crate::operator::{Process, is_operator};
use crate::store::{ActorKind, Outcome, Store};

/// Where acts are noted, and which routes are some.
#[derive(Clone)]
pub(super) struct Acts {
    store: Store,
    routes: Arc<[Route]>,
}

// === impl Acts ===

impl Acts {
    pub(super) fn new(store: Store, routes: &[Routes]) -> Self {
        let routes = routes.iter().flat_map(Routes::declared);
        Self {
            store,
            routes: routes.cloned().collect(),
        }
    }

    fn find(&self, method: &Method, path: &str) -> Option<(&'static str, Noted)> {
        // What answers GET answers HEAD.
        let method = match *method {
            Method::HEAD => &Method::GET,
            _ => method,
        };
        let mut routes = self.routes.iter();
        let route = routes.find(|route| route.method == *method && *route.path == *path)?;
        Some((route.act?, route.noted))
    }
}

/// Has acts noted. One that cannot be noted is not done, and one that was begun comes to its end, also if nobody waits for
/// it any more.
pub(super) async fn note(
    State(acts): State<Acts>,
    path: MatchedPath,
    params: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let params = match params {
        Ok(params) => params,
        Err(_) => return ApiError::bad_request("the path must be UTF-8").into_response(),
    };
    let Some((action, noted)) = acts.find(request.method(), path.as_str()) else {
        return next.run(request).await;
    };
    let Some(actor) = actor(request.extensions()) else {
        return ApiError::forbidden("nobody is signed in").into_response();
    };
    let act = Act::new(actor, action);
    for (name, value) in &params {
        match name {
            "user_id" => act.to_user(value),
            _ => act.to(value),
        }
    }
    request.extensions_mut().insert(act.clone());
    let ended = |response: &Response| {
        let code = response.extensions().get().map(|ErrorCode(code)| *code);
        (outcome(response.status()), code)
    };
    let done = perform(acts.store, act, noted, next.run(request), ended);
    done.await.unwrap_or_else(IntoResponse::into_response)
}

/// Does what is an act although its route is for everybody.
pub(super) async fn perform_own(
    store: Store,
    act: Act,
    work: impl Future<Output = Result<(), ApiError>> + Send + 'static,
) -> Result<(), ApiError> {
    let ended = |done: &Result<(), ApiError>| match done {
        Ok(()) => (Outcome::Done, None),
        Err(error) => (outcome(error.status()), Some(error.code())),
    };
    perform(store, act, Noted::BeforeAndAfter, work, ended).await?
}

async fn perform<T: Send + 'static>(
    store: Store,
    act: Act,
    noted: Noted,
    work: impl Future<Output = T> + Send + 'static,
    ended: impl FnOnce(&T) -> (Outcome, Option<&'static str>) + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::spawn(async move {
        if noted == Noted::BeforeAndAfter {
            let begun = act.begin(&store).await;
            begun.map_err(|error| ApiError::unavailable("audit log", &error))?;
        }
        let done = work.await;
        let (outcome, code) = ended(&done);
        if let Err(error) = act.end(&store, outcome, code).await {
            error!(
                error = &error as &dyn std::error::Error,
                action = act.action(),
                "how an act ended is not noted"
            );
        }
        Ok(done)
    });
    done.await
        .unwrap_or_else(|stopped| Err(ApiError::unavailable("gateway", &stopped)))
}

fn outcome(status: StatusCode) -> Outcome {
    match status {
        _ if status.is_success() => Outcome::Done,
        _ if status.is_server_error() => Outcome::Failed,
        _ => Outcome::Refused,
    }
}

/// Who asks, as a request's extensions have it.
pub(super) fn actor(extensions: &Extensions) -> Option<Actor> {
    let identity = extensions.get::<Arc<Identity>>()?;
    if is_operator(identity) {
        let process = extensions.get::<Process>();
        return Some(Actor {
            kind: ActorKind::Operator,
            id: identity.subject().to_string(),
            address: process.map(ToString::to_string),
        });
    }
    let address = extensions.get::<ClientAddress>();
    Some(Actor {
        kind: ActorKind::User,
        id: identity.user_id().to_string(),
        address: address.map(|address| address.0.to_string()),
    })
}
