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

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

use super::{
    ModelCall, ProviderClient,
    call::{Entry, Record},
    chat,
    directive::Plan,
};
use crate::{
    clock::unix_millis,
    error::{Error, Result},
};

/// The models it has.
pub const MODELS: [&str; 2] = ["test-small", "test-large"];

type Body = UnsyncBoxBody<Bytes, Infallible>;

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

/// What all parts of one answer repeat.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
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
            (&Method::GET, "/__requests") => answer(StatusCode::OK, &json!(self.record.all())),
            (&Method::POST, "/__reset") => {
                self.record.clear();
                answer(StatusCode::OK, &json!({}))
            }
            (&Method::GET, "/healthz") => answer(StatusCode::OK, &json!({})),
            (&Method::GET, "/v1/models") => self.models(&request),
            (&Method::POST, "/v1/chat/completions") => self.complete(request).await,
            (method, path) => refusal(
                StatusCode::NOT_FOUND,
                &format!("nothing at {method} {path}"),
            ),
        }
    }

    fn models(&self, request: &Request<Incoming>) -> Response<Body> {
        if !self.keys.iter().any(|key| key == bearer(request)) {
            return unknown_key();
        }
        let models = MODELS.map(|id| json!({"id": id, "object": "model", "owned_by": "test"}));
        answer(StatusCode::OK, &json!({"object": "list", "data": models}))
    }

    async fn complete(&self, request: Request<Incoming>) -> Response<Body> {
        let key = bearer(&request).to_owned();
        let client_request_id = request.headers().get("x-client-request-id");
        let client_request_id = client_request_id
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        let Ok(body) = request.into_body().collect().await else {
            return refusal(StatusCode::BAD_REQUEST, "the request ended too early");
        };
        let Ok(body) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
            return refusal(StatusCode::BAD_REQUEST, "the request is no JSON");
        };
        let prompt = chat::prompt(&body);
        let plan = Plan::of(&prompt);
        let head = Head {
            id: format!(
                "chatcmpl-{}",
                self.requests.fetch_add(1, Ordering::Relaxed) + 1
            ),
            model: body["model"].as_str().unwrap_or_default().to_owned(),
        };
        let known = self.keys.contains(&key);
        let status = if known {
            plan.status.unwrap_or(200)
        } else {
            401
        };
        let billed = status == 200;
        let stream = body["stream"] == true;
        let entry = self.record.add(ModelCall {
            id: head.id.clone(),
            at: unix_millis(),
            model: head.model.clone(),
            stream,
            status,
            prompt_tokens: if billed { plan.prompt_tokens() } else { 0 },
            completion_tokens: 0,
            cached_tokens: if billed { plan.cache_read } else { 0 },
            key,
            finished: false,
            last_user: prompt.last_user,
            tool_result: prompt.tool_result,
            client_request_id,
        });
        if !known {
            return unknown_key();
        }

        sleep(Duration::from_millis(plan.sleep)).await;
        if !billed {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return refusal(status, &format!("told to answer {status}"));
        }
        if stream {
            return events(chat::events(&head, &plan, &body).stream(&plan, entry));
        }
        finish(&entry, &plan);
        answer(StatusCode::OK, &chat::whole(&head, &plan))
    }
}

fn finish(entry: &Entry, plan: &Plan) {
    entry.update(|call| {
        call.completion_tokens = plan.output;
        call.finished = true;
    });
}

fn bearer<B>(request: &Request<B>) -> &str {
    let value = request.headers().get(header::AUTHORIZATION);
    value
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default()
}

fn events(events: impl stream::Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
    let body = StreamBody::new(events.map(|event| Ok(Frame::data(event))));
    let mut response = Response::new(BodyExt::boxed_unsync(body));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/event-stream"),
    );
    response
}

fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::from(body.to_string()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

fn unknown_key() -> Response<Body> {
    refusal(StatusCode::UNAUTHORIZED, "this API key is not known")
}

/// An error as OpenAI words it.
fn refusal(status: StatusCode, message: &str) -> Response<Body> {
    answer(
        status,
        &json!({"error": {"message": message, "type": "test_error", "code": null}}),
    )
}
