//! The provider as an HTTP server.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, StatusCode, header::HeaderValue};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

use super::{
    Api, ModelCall, ProviderClient,
    answer::{Body, events, whole},
    api::{Head, openai_error},
    call::{Entry, Record},
    directive::Plan,
};
use crate::{
    clock::unix_millis,
    error::{Error, Result},
};

/// The models it has at OpenAI's API.
pub const MODELS: [&str; 2] = ["test-small", "test-large"];

/// The model for embeddings.
pub const EMBEDDING_MODEL: &str = "test-embedding";

/// The model it has at Anthropic's API.
pub const ANTHROPIC_MODEL: &str = "test-claude";

const UNKNOWN_KEY: &str = "this API key is not known";

/// A provider on a loopback port of this process. Dropping it closes the port.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    accept: JoinHandle<()>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    keys: Vec<String>,
    record: Record,
    requests: AtomicU64,
}

impl Provider {
    /// Starts a provider that accepts these keys.
    ///
    /// # Errors
    ///
    /// [`Error::Connection`] when there is no port to listen on.
    pub async fn start(keys: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let keys = keys.into_iter().map(Into::into).collect();
        let failed = |error| Error::connection("a loopback port", error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            keys,
            record: Record::default(),
            requests: AtomicU64::new(0),
        });
        Ok(Self {
            address,
            accept: tokio::spawn(accept(listener, shared)),
        })
    }

    /// The base URL, `http://127.0.0.1:<port>`, without `/v1`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client for its record.
    #[must_use]
    pub fn client(&self) -> ProviderClient {
        ProviderClient::new(self.url())
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(shared.answer(request).await) }
        });
        // A connection that breaks is the client's business, and the record says what it got.
        tokio::spawn(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

// === impl Shared ===

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/__requests") => whole(StatusCode::OK, &json!(self.record.all())),
            (&Method::POST, "/__reset") => {
                self.record.clear();
                whole(StatusCode::OK, &json!({}))
            }
            (&Method::GET, "/healthz") => whole(StatusCode::OK, &json!({})),
            (&Method::GET, "/v1/models") => self.models(request.headers()),
            (method, path) => match Api::at(path) {
                Some(api) if method == Method::POST => self.call(api, request).await,
                _ => {
                    let message = format!("nothing at {method} {path}");
                    whole(StatusCode::NOT_FOUND, &openai_error(&message))
                }
            },
        }
    }

    fn models(&self, headers: &HeaderMap) -> Response<Body> {
        let knows = |api: Api| self.knows(api.key(headers));
        if knows(Api::Messages) {
            let model = json!({
                "type": "model", "id": ANTHROPIC_MODEL, "display_name": "Test", "created_at": "2025-01-01T00:00:00Z",
            });
            let page = json!({
                "data": [model], "has_more": false, "first_id": ANTHROPIC_MODEL, "last_id": ANTHROPIC_MODEL,
            });
            return whole(StatusCode::OK, &page);
        }
        if !knows(Api::Chat) {
            return whole(StatusCode::UNAUTHORIZED, &openai_error(UNKNOWN_KEY));
        }
        let models = MODELS.into_iter().chain([EMBEDDING_MODEL]);
        let models = models.map(|id| json!({"id": id, "object": "model", "owned_by": "test"}));
        let models: Vec<_> = models.collect();
        whole(StatusCode::OK, &json!({"object": "list", "data": models}))
    }

    async fn call(&self, api: Api, request: Request<Incoming>) -> Response<Body> {
        let n = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let request_id = format!("req_{n}");
        let refusal =
            |status, message: &str| whole(status, &api.error(status, message, &request_id));
        let mut response = match self.attempt(api, n, request).await {
            Ok(response) => response,
            Err((status, message)) => refusal(status, &message),
        };
        if let Ok(id) = HeaderValue::try_from(&request_id) {
            response.headers_mut().insert(api.request_id_header(), id);
        }
        response
    }

    async fn attempt(
        &self,
        api: Api,
        n: u64,
        request: Request<Incoming>,
    ) -> std::result::Result<Response<Body>, (StatusCode, String)> {
        let bad = |message: &str| (StatusCode::BAD_REQUEST, message.to_owned());
        let (parts, body) = request.into_parts();
        let body = body.collect().await;
        let body = body.map_err(|_| bad("the request ended too early"))?;
        let body: Value =
            serde_json::from_slice(&body.to_bytes()).map_err(|_| bad("the request is no JSON"))?;

        let prompt = api.prompt(&body);
        let plan = api.plan(&prompt);
        let key = api.key(&parts.headers);
        let refused = if self.knows(key) {
            let problem = api.problem(&parts.headers, &body);
            let refused = problem.map(|problem| bad(&problem));
            refused.or_else(|| self.failure(&plan, &prompt.last_user))
        } else {
            Some((StatusCode::UNAUTHORIZED, UNKNOWN_KEY.to_owned()))
        };
        let status = refused
            .as_ref()
            .map_or(StatusCode::OK, |(status, _)| *status);
        let head = Head {
            id: api.id(plan.answer.unwrap_or(n)),
            model: body["model"].as_str().unwrap_or_default().to_owned(),
        };
        let mut events_of_answer = api.events(&head, &plan, &body);
        let breaks = plan
            .breaks
            .filter(|_| self.record.begun(&prompt.last_user) < plan.times);
        if let Some((events, breaks)) = events_of_answer.as_mut().zip(breaks) {
            api.fail(events, breaks);
        }
        let client_request_id = parts.headers.get("x-client-request-id");
        let client_request_id = client_request_id.and_then(|id| id.to_str().ok());
        let traceparent = parts.headers.get("traceparent");
        let traceparent = traceparent.and_then(|trace| trace.to_str().ok());
        let billed = |tokens| if refused.is_none() { tokens } else { 0 };
        let entry = self.record.add(ModelCall {
            id: head.id.clone(),
            at: unix_millis(),
            api,
            model: head.model.clone(),
            stream: events_of_answer.is_some(),
            status: status.as_u16(),
            prompt_tokens: billed(plan.prompt_tokens()),
            completion_tokens: 0,
            cached_tokens: billed(plan.cache_read),
            cache_write_tokens: billed(plan.cache_write),
            reasoning_tokens: 0,
            key: key.to_owned(),
            finished: false,
            last_user: prompt.last_user,
            tool_result: prompt.tool_result,
            client_request_id: client_request_id.map(str::to_owned),
            traceparent: traceparent.map(str::to_owned),
        });

        if status != StatusCode::UNAUTHORIZED {
            sleep(Duration::from_millis(plan.sleep)).await;
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        if let Some(answer) = events_of_answer {
            return Ok(events(answer.stream(&plan, entry)));
        }
        finish(&entry, &plan);
        Ok(whole(StatusCode::OK, &api.whole(&head, &plan, &body)))
    }

    fn knows(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known == key)
    }

    /// What it is told to fail with.
    fn failure(&self, plan: &Plan, last_user: &str) -> Option<(StatusCode, String)> {
        let status = plan.status.filter(|status| *status != 200)?;
        if self.record.count(last_user, status) >= plan.times {
            return None;
        }
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Some((status, format!("told to answer {}", status.as_u16())))
    }
}

fn finish(entry: &Entry, plan: &Plan) {
    entry.update(|call| {
        call.completion_tokens = plan.output;
        call.reasoning_tokens = plan.reasoning;
        call.finished = true;
    });
}
