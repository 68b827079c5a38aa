use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pin_project_lite::pin_project;
use tokio::time::timeout;
use tower_http::timeout::TimeoutBody;
use tower_service::Service;
use tower_sso::ClientAddress;
use tower_workspace::Workspace;
use tracing::warn;

use super::call::RunCall;
use super::policy::{NotStarted, SHOULD_RETRY};
use super::refusal::Refusal;
use super::session;
use crate::environment::Environments;
use crate::instance::{DialError, Gate, Person, Upstream};

/// How long the instance may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a run may say nothing: one that does not stream says nothing until it is over.
const SILENCE: Duration = Duration::from_secs(600);

/// How long a connection is kept that nobody uses; the instance closes its own after 5 s.
const IDLE: Duration = Duration::from_secs(3);

/// Longest answer that says what went wrong, and how long it may take.
const MAX_ERROR: usize = 256 << 10;
const ERROR_TIMEOUT: Duration = Duration::from_secs(30);

/// By which an answer is not one of OpenClaw's HTTP API.
const EVENT_STREAM: &str = "text/event-stream";
const JSON: &str = "application/json";

/// What of the instance's answer a client is told: no cookie, nothing that a proxy before us would obey.
const TOLD: [HeaderName; 1] = [CONTENT_TYPE];

/// What is in the part of an answer that a model has a part in: then its run is prepared.
const CONTENT: [&str; 3] = ["\"content\":\"", "\"tool_calls\":", ".delta\""];

/// The innermost service of runs over HTTP: asks the instance for a run of the agent of whoever asks, in their name.
#[derive(Clone, Debug)]
pub struct ForwardRun {
    environments: Environments,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// A run that is being prepared; dropped, it is no more.
struct Preparing {
    gate: Gate,
    user_id: Arc<str>,
}

pin_project! {
    /// An answer of the instance; with the first words of a model its run is prepared.
    struct Answer<B> {
        #[pin]
        inner: B,
        preparing: Option<Preparing>,
    }
}

// === impl ForwardRun ===

impl ForwardRun {
    /// A service for the people of these environments.
    #[must_use]
    pub fn new(environments: Environments) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self {
            environments,
            client,
        }
    }

    async fn run(
        &self,
        call: &RunCall,
        workspace: &Workspace,
        address: Option<IpAddr>,
    ) -> Result<Response<Body>, Refusal> {
        let no_agent = || {
            let message = "You have no agent here yet.";
            Refusal::new(StatusCode::FORBIDDEN, "workspace_missing", message)
        };
        let agent = workspace.slot().ok_or_else(no_agent)?;
        let upstream = self.environments.upstream_of(workspace);
        let upstream = &*upstream.ok_or_else(unavailable)?;
        let body = call.to_body(agent);
        // In a cell nobody has to be told whose it is.
        if let Some(session) = call.session_of(agent)
            && !upstream.is_cell()
        {
            make_session(upstream, workspace, address, agent, &session).await?;
        }
        let gate = upstream.gate.clone();
        let user_id = Arc::clone(workspace.user_id());
        gate.enter(&user_id).await;
        let preparing = Preparing { gate, user_id };
        let mut response = self
            .send(upstream, call, workspace, address, body.clone())
            .await?;
        if response.status() == StatusCode::FORBIDDEN {
            // Somebody else's administrator, or a backup, has taken the role away.
            let bound = upstream.bind(workspace.name().as_str(), agent).await;
            bound.map_err(|_| unavailable())?;
            response = self.send(upstream, call, workspace, address, body).await?;
        }
        if response.status() == StatusCode::FORBIDDEN && call.goes_on() {
            let message = "There is no such response of yours; begin anew.";
            let status = StatusCode::BAD_REQUEST;
            let mut refusal = Refusal::new(status, "previous_response_not_found", message);
            refusal.param = Some("previous_response_id".to_owned());
            return Err(refusal);
        }
        inbound(response, preparing).await
    }

    async fn send(
        &self,
        upstream: &Upstream,
        call: &RunCall,
        workspace: &Workspace,
        address: Option<IpAddr>,
        body: Bytes,
    ) -> Result<Response<Incoming>, Refusal> {
        let dialer = &upstream.dialer;
        let path = call.endpoint.path();
        let uri: Result<Uri, _> = format!("http://{}{path}", dialer.address()).parse();
        let headers = dialer.headers(Some(workspace.name().as_str()), address);
        let (Ok(uri), Ok(headers)) = (uri, headers) else {
            warn!("instance cannot be asked in somebody's name");
            return Err(unavailable());
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        match timeout(SILENCE, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "instance cannot be reached"
                );
                Err(unavailable())
            }
            Ok(Err(error)) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "instance broke off a run"
                );
                let message = "The assistant's gateway broke off.";
                Err(failed(StatusCode::BAD_GATEWAY, "broken_off", message))
            }
            Err(_) => {
                warn!("instance did not answer in time");
                let message = "The assistant did not answer in time.";
                Err(failed(StatusCode::GATEWAY_TIMEOUT, "timeout", message))
            }
        }
    }
}

/// Sees to it that the conversation is the person's own before OpenClaw makes it nobody's.
async fn make_session(
    upstream: &Upstream,
    workspace: &Workspace,
    address: Option<IpAddr>,
    agent: &str,
    session: &str,
) -> Result<(), Refusal> {
    let user = workspace.name().as_str();
    let mut person = Person::new(user);
    person.address = address;
    let dialer = &upstream.dialer;
    let made = match session::make(dialer, &person, agent, session).await {
        Err(DialError::Unbound) => {
            let bound = upstream.bind(user, agent).await;
            bound.map_err(|_| unavailable())?;
            session::make(dialer, &person, agent, session).await
        }
        made => made,
    };
    made.map_err(|error| {
        warn!(%error, "conversation cannot be made");
        unavailable()
    })
}

impl Service<Request<RunCall>> for ForwardRun {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: Request<RunCall>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (head, call) = req.into_parts();
            let workspace: Option<&Arc<Workspace>> = head.extensions.get();
            let address: Option<&ClientAddress> = head.extensions.get();
            let answered = match workspace {
                Some(workspace) => {
                    this.run(&call, workspace, address.map(|address| address.0))
                        .await
                }
                // A stack that lost its workspace layer forwards nothing.
                None => {
                    let message = "You have no workspace here yet.";
                    Err(Refusal::new(
                        StatusCode::FORBIDDEN,
                        "workspace_missing",
                        message,
                    ))
                }
            };
            Ok(answered.unwrap_or_else(|refusal| {
                let is_started = is_failure_of_a_run(refusal.status);
                let mut response = refusal.into_response(Body::from);
                if is_started {
                    not_again(response.headers_mut());
                } else {
                    response.extensions_mut().insert(NotStarted);
                }
                response
            }))
        })
    }
}

fn unavailable() -> Refusal {
    Refusal::unavailable("The assistant's gateway is not reachable right now.", 2)
}

fn failed(status: StatusCode, code: &'static str, message: &'static str) -> Refusal {
    Refusal::new(status, code, message)
}

/// Whether an answer of this status, of ours or the instance's, is the end of a run: else none was started.
fn is_failure_of_a_run(status: StatusCode) -> bool {
    !matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::NOT_IMPLEMENTED
            | StatusCode::SERVICE_UNAVAILABLE
    )
}

/// A run has used its tools by the time that it fails: nobody's SDK should begin it anew by itself.
fn not_again(headers: &mut HeaderMap) {
    headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
}

async fn inbound(
    response: Response<Incoming>,
    preparing: Preparing,
) -> Result<Response<Body>, Refusal> {
    let (head, body) = response.into_parts();
    let kind = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    let is_answer = kind == JSON || (kind == EVENT_STREAM && head.status == StatusCode::OK);
    let mut told = match head.status {
        StatusCode::OK if is_answer => {
            let answer = Answer {
                inner: TimeoutBody::new(SILENCE, body),
                preparing: Some(preparing),
            };
            Response::new(Body::new(Box::pin(answer)))
        }
        // OpenClaw has its page there, or nothing.
        StatusCode::OK | StatusCode::NOT_FOUND if !is_answer => {
            warn!(
                "instance does not serve OpenAI's API: gateway.http.endpoints in its openclaw.json"
            );
            let message = "The assistant's gateway does not offer this. Tell your administrator.";
            return Err(failed(StatusCode::NOT_IMPLEMENTED, "not_offered", message));
        }
        // It is us whom it does not want.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            warn!(status = %head.status, "instance refused a run");
            return Err(unavailable());
        }
        StatusCode::SERVICE_UNAVAILABLE => return Err(unavailable()),
        status if is_answer && (status.is_client_error() || status.is_server_error()) => {
            let read = timeout(ERROR_TIMEOUT, Limited::new(body, MAX_ERROR).collect()).await;
            let Ok(Ok(read)) = read else {
                let message = "The assistant's gateway broke off.";
                return Err(failed(StatusCode::BAD_GATEWAY, "broken_off", message));
            };
            let mut told = Response::new(Body::from(read.to_bytes()));
            if is_failure_of_a_run(status) {
                not_again(told.headers_mut());
            } else {
                told.extensions_mut().insert(NotStarted);
            }
            told
        }
        status => {
            warn!(%status, "instance gave no answer of its API");
            let message = "The assistant's gateway failed.";
            return Err(failed(StatusCode::BAD_GATEWAY, "failed", message));
        }
    };
    *told.status_mut() = head.status;
    for name in TOLD {
        if let Some(value) = head.headers.get(&name) {
            told.headers_mut().insert(name, value.clone());
        }
    }
    if let Some(wait) = head
        .headers
        .get(RETRY_AFTER)
        .filter(|_| head.status != StatusCode::OK)
    {
        told.headers_mut().insert(RETRY_AFTER, wait.clone());
    }
    Ok(told)
}

// === impl Preparing ===

impl Drop for Preparing {
    fn drop(&mut self) {
        self.gate.leave(&self.user_id);
    }
}

// === impl Answer ===

impl<B> http_body::Body for Answer<B>
where
    B: http_body::Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if this.preparing.is_some() {
            let is_prepared = match &frame {
                Some(Ok(frame)) => frame.data_ref().is_none_or(|data| has_content(data)),
                _ => true,
            };
            if is_prepared {
                this.preparing.take();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

fn has_content(data: &[u8]) -> bool {
    CONTENT.iter().any(|words| {
        data.windows(words.len())
            .any(|part| part == words.as_bytes())
    })
}
