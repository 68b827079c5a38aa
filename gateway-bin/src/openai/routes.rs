use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use axum::response::Response;
use axum::{Extension, Json};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;
use tower_sso::{ClientAddress, Identity};
use tower_workspace::WorkspaceResolver;
use utoipa_axum::routes;

use super::call::{Endpoint, RunCall};
use super::described::{ChatCompletionRequest, Refused, ResponseRequest, RunRefused};
use super::forward::ForwardRun;
use super::models::{self, Model, ModelList};
use super::policy::unauthorized;
use super::refusal::Refusal;
use super::watch::Watched;
use crate::api::{Access, Api, Routes};
use crate::cells::CellError;
use crate::environment::{Environment, EnvironmentError};
use crate::sign_in::scope;
use crate::socket::{Credential, Places};
use crate::stack::Parts;

/// Largest body of a request: what OpenClaw takes (its documentation, "Request limits").
const MAX_BODY: usize = 20 << 20;

/// How long it may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a request waits for a cell that starts. Programs try again a few times within seconds and then give up; proxies
/// before us wait for a minute.
const START: Duration = Duration::from_secs(40);

/// How often it is looked whether it runs meanwhile.
const LOOK: Duration = Duration::from_millis(500);

/// Runs of people, through the layers.
#[derive(Clone)]
pub(crate) struct Runs {
    api: Api,
    places: Places,
    stack: BoxCloneSyncService<http::Request<RunCall>, Response, Infallible>,
}

/// The routes of OpenAI's API. Handlers need [`Runs`], and who is signed in, in extensions.
pub(crate) fn routes() -> Routes {
    Routes::new(Access::Scope(scope::CHAT))
        .add(routes!(chat_completion))
        .add(routes!(response))
        .add(routes!(list))
        .add(routes!(show))
}

/// Runs the caller's agent, by OpenAI's Chat Completions API.
///
/// Of that API's members those are taken that mean something to OpenClaw or do no harm; others are refused by name.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    request_body = ChatCompletionRequest,
    responses(
        (status = OK, content(
            (Object = "application/json"),
            (Value = "text/event-stream"),
        ), description = "a chat completion, or its chunks with `stream`"),
        RunRefused,
    )
)]
async fn chat_completion(
    runs: Extension<Runs>,
    identity: Extension<Arc<Identity>>,
    address: Option<Extension<ClientAddress>>,
    request: Request,
) -> Result<Response, Refusal> {
    create(runs, Endpoint::ChatCompletions, identity, address, request).await
}

/// Runs the caller's agent, by OpenAI's Responses API.
///
/// Of that API's members those are taken that mean something to OpenClaw or do no harm; others are refused by name.
#[utoipa::path(
    post,
    path = "/v1/responses",
    request_body = ResponseRequest,
    responses(
        (status = OK, content(
            (Object = "application/json"),
            (Value = "text/event-stream"),
        ), description = "a response, or its events with `stream`"),
        RunRefused,
    )
)]
async fn response(
    runs: Extension<Runs>,
    identity: Extension<Arc<Identity>>,
    address: Option<Extension<ClientAddress>>,
    request: Request,
) -> Result<Response, Refusal> {
    create(runs, Endpoint::Responses, identity, address, request).await
}

/// The names of the caller's agent, as OpenAI lists models.
#[utoipa::path(
    get,
    path = "/v1/models",
    responses((status = OK, body = ModelList, description = "all of them"), Refused)
)]
async fn list(
    Extension(runs): Extension<Runs>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Json<ModelList>, Refusal> {
    let agent = runs.agent_of(&identity).await?;
    Ok(Json(models::list(agent.as_deref())))
}

/// One of the names of the caller's agent.
#[utoipa::path(
    get,
    path = "/v1/models/{*name}",
    responses((status = OK, body = Model, description = "it is one"), Refused)
)]
async fn show(
    Extension(runs): Extension<Runs>,
    Extension(identity): Extension<Arc<Identity>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, Refusal> {
    // What is not UTF-8 names none.
    let Path(name) = name.map_err(|_| no_such_model())?;
    let agent = runs.agent_of(&identity).await?;
    let mut known = models::names(agent.as_deref());
    known
        .find(|known| *known == name)
        .map(|name| Json(Model::new(name)))
        .ok_or_else(no_such_model)
}

async fn create(
    Extension(runs): Extension<Runs>,
    endpoint: Endpoint,
    Extension(identity): Extension<Arc<Identity>>,
    address: Option<Extension<ClientAddress>>,
    request: Request,
) -> Result<Response, Refusal> {
    // From here on, so that what ends meanwhile is heard.
    let sign_in = runs.api.sign_in.clone();
    let mut credential = Credential::new(Arc::clone(&identity), Some(sign_in));
    credential.used();
    runs.allow(&identity)?;
    let place = runs.places.take(identity.user_id()).ok_or_else(|| {
        let message = "You have too many runs at once; wait for some.";
        let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_runs", message);
        refusal.retry_after = Some(5);
        refusal
    })?;
    let ended = poll_fn(|cx| credential.poll_end(cx));
    let response = tokio::select! {
        biased;
        _ = ended => return Err(unauthorized("Your sign-in is over.")),
        response = runs.run(endpoint, &identity, address, request) => response?,
    };
    let mut response = response;
    let environment = response.extensions_mut().remove::<Environment>();
    Ok(response.map(|body| Body::new(Watched::new(body, credential, (place, environment)))))
}

// === impl Runs ===

impl Runs {
    pub(crate) fn new(api: &Api, layers: &Parts) -> Self {
        let stack = layers.http_runs(ForwardRun::new(api.environments.clone()));
        let stack = stack.map_response(|response: http::Response<_>| response.map(Body::new));
        Self {
            api: api.clone(),
            places: Places::default(),
            stack: BoxCloneSyncService::new(stack),
        }
    }

    fn allow(&self, identity: &Identity) -> Result<(), Refusal> {
        match self.api.sign_in.allows(identity, scope::CHAT) {
            true => Ok(()),
            false => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "insufficient_scope",
                "This key is not for conversations.",
            )),
        }
    }

    async fn run(
        &self,
        endpoint: Endpoint,
        identity: &Arc<Identity>,
        address: Option<Extension<ClientAddress>>,
        request: Request,
    ) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        let kind = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let kind = kind
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default();
        // A form of another site cannot say this.
        if !kind.trim().eq_ignore_ascii_case("application/json")
            || head.headers.contains_key(CONTENT_ENCODING)
        {
            let message = "The body must be application/json, not compressed.";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Refusal::new(status, "unsupported_media_type", message));
        }
        let call = RunCall::parse(endpoint, &read(body).await?)?;
        let environment = self.open(identity).await?;
        let workspace = &environment.workspace;
        if !workspace.slot().is_some_and(|agent| call.is_for(agent)) {
            return Err(no_such_model());
        }
        let mut request = http::Request::new(call);
        request.extensions_mut().insert(Arc::clone(identity));
        if let Some(Extension(address)) = address {
            request.extensions_mut().insert(address);
        }
        let answered = self.stack.clone().oneshot(request).await;
        let mut response = answered.unwrap_or_else(|never| match never {});
        // It is used until the answer is over.
        response.extensions_mut().insert(environment);
        Ok(response)
    }

    /// Whoever's environment, made if it is missing.
    async fn open(&self, identity: &Arc<Identity>) -> Result<Environment, Refusal> {
        // An instance that is down is not waited for.
        if !self.api.environments.is_ready_for(identity.user_id()) {
            return Err(not_there());
        }
        let deadline = Instant::now() + START;
        let opened = loop {
            let opened = self.api.environments.open(identity).await;
            let starts = matches!(
                opened,
                Err(EnvironmentError::Cell(CellError::Starting { .. }))
            );
            if !starts || Instant::now() > deadline {
                break opened;
            }
            sleep(LOOK).await;
        };
        opened.map_err(|error| match error {
            EnvironmentError::InvalidUser(_) => Refusal::new(
                StatusCode::FORBIDDEN,
                "invalid_user",
                "Your user id cannot have a workspace here.",
            ),
            EnvironmentError::Full => {
                let message = "All places here are taken; tell your administrator.";
                Refusal::unavailable(message, 60)
            }
            EnvironmentError::NoSandbox => {
                let message =
                    "Your tools must run in a sandbox, and there is none; tell your administrator.";
                Refusal::unavailable(message, 60)
            }
            EnvironmentError::Cell(error) => {
                let after = error.retry_after().unwrap_or_default().as_secs();
                Refusal::unavailable(error.sentence(), after.max(1))
            }
            EnvironmentError::Unavailable { .. } | EnvironmentError::Away(_) => not_there(),
        })
    }

    /// The name of whoever's agent, if they have one already.
    async fn agent_of(&self, identity: &Arc<Identity>) -> Result<Option<String>, Refusal> {
        self.allow(identity)?;
        let workspace = self.api.environments.resolve(identity.user_id()).await;
        Ok(workspace
            .ok()
            .and_then(|workspace| Some(workspace.slot()?.to_owned())))
    }
}

fn not_there() -> Refusal {
    Refusal::unavailable("Your workspace is not available right now.", 2)
}

fn no_such_model() -> Refusal {
    let message = "There is no such model. `openclaw` is your own agent; `/v1/models` lists what else it is called.";
    let mut refusal = Refusal::new(StatusCode::NOT_FOUND, "model_not_found", message);
    refusal.param = Some("model".to_owned());
    refusal
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    let too_large = || {
        let message = "The body is larger than 20 MiB.";
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    };
    // What it says of its length is believed where that is too much.
    let length = http_body::Body::size_hint(&body).lower();
    if usize::try_from(length).is_ok_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            let message = "The body broke off.";
            Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "invalid_body",
                message,
            ))
        }
        Err(_) => {
            let message = "The body did not come in time.";
            Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                message,
            ))
        }
    }
}
