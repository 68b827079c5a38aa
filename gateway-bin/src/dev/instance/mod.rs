//! An instance that speaks OpenClaw's gateway protocol, version 4, as far as a conversation needs it: configuration by
//! merge patches, agents, roles, sessions, runs. It keeps everything in memory.

mod http;
mod method;
mod run;
mod socket;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::StatusCode;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use self::state::Instance;
use crate::config::Secret;

/// The header that names the person.
pub(super) const USER_HEADER: &str = "x-forwarded-user";

/// How often everybody is told that it lives (the real one's `policy.tickIntervalMs`).
const TICK: Duration = Duration::from_secs(30);

/// The instance; clones share it.
#[derive(Clone, Debug)]
pub struct DemoInstance(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    password: Secret,
    http: Client<HttpConnector, Full<bytes::Bytes>>,
    instance: Mutex<Instance>,
    /// Whether `chat.send` wants `workspaceDir` and `authProfileId`.
    extended: bool,
}

// === impl DemoInstance ===

impl DemoInstance {
    /// An instance whose administration channel `password` opens. `main_workspace` is what it says of the agent that it
    /// has from the beginning. `extended`: in the place of an OpenClaw that was patched, its `chat.send` takes a message only
    /// with `workspaceDir`, `authProfileId` and the session `user:<name>`.
    #[must_use]
    pub fn new(password: Secret, main_workspace: &str, extended: bool) -> Self {
        let config = json!({
            "gateway": {
                "trustedProxies": ["127.0.0.1"],
                "auth": {"mode": "trusted-proxy", "trustedProxy": {
                    "userHeader": USER_HEADER, "allowLoopback": true,
                    "deviceAutoApprove": {"enabled": true, "scopes": ["operator.read", "operator.write"]}}},
                "controlUi": {"allowedOrigins": ["https://proxy.internal"]},
                "http": {"endpoints": {"chatCompletions": {"enabled": true}, "responses": {"enabled": false}}},
            },
            "models": {"providers": {}},
            "agents": {"entries": {"main": {"workspace": main_workspace}}},
        });
        Self(Arc::new(Shared {
            password,
            http: Client::builder(TokioExecutor::new()).build_http(),
            instance: Mutex::new(Instance::new(config)),
            extended,
        }))
    }

    /// What it answers: health, chat completions, and an upgrade on any path.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/healthz", get(live))
            .route("/readyz", get(live))
            .route("/v1/chat/completions", post(http::chat_completions))
            .fallback(upgrade)
            .with_state(self.clone())
    }

    /// Tells everybody from time to time that it lives.
    pub async fn tick(self) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            self.lock().tell_all("tick", &json!({ "ts": state::now() }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Instance> {
        self.0
            .instance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn live() -> &'static str {
    r#"{"ok":true,"status":"live","demo":true}"#
}

async fn upgrade(State(demo): State<DemoInstance>, mut request: Request) -> Response {
    let Ok(accepted) = crate::socket::accept(&request) else {
        let text = "This is the demo instance of `gateway dev`, which has no page: OpenClaw's own is there with \
                    `gateway dev --openclaw`.";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let headers = request.into_parts().0.headers;
    tokio::spawn(async move {
        if let Ok(io) = upgraded.await {
            socket::serve(demo, TokioIo::new(io), headers).await;
        }
    });
    accepted.map(|()| Body::empty())
}
