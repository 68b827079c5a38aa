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
    let done = tokio::spawn(async move {
        if noted == Noted::BeforeAndAfter
            && let Err(error) = act.begin(&acts.store).await
        {
            return ApiError::unavailable("audit log", &error).into_response();
        }
        let response = next.run(request).await;
        let code = response.extensions().get().map(|ErrorCode(code)| *code);
        let ended = act.end(&acts.store, outcome(response.status()), code).await;
        if let Err(error) = ended {
            error!(
                error = &error as &dyn std::error::Error,
                action, "how an act ended is not noted"
            );
        }
        response
    });
    done.await
        .unwrap_or_else(|stopped| ApiError::unavailable("gateway", &stopped).into_response())
}

pub(super) fn outcome(status: StatusCode) -> Outcome {
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
