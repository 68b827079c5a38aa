use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use tower_quota::{Clock, Dimension, Limit, Limits, MemoryStore, QuotaStore, Window};
use tower_sso::{Identity, Reason, VerifyFuture};
use tower_usage::PriceList;
use tower_usage::sqlite::{LedgerOptions, SqliteLedger};
use tower_workspace::fs::Provisioner;

use super::app;
use super::outbound::{Provider, client};
use super::settle::follow;

/// The day does not end while a test runs.
#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(12 * 3600)
    }
}

struct Fixture {
    app: Router,
    quota: Arc<MemoryStore>,
    ledger: Arc<SqliteLedger>,
    data: tempfile::TempDir,
}

impl Fixture {
    /// The app with one limit, in which a token is the name of its user.
    async fn with_limit(limit: Limit) -> Self {
        let data = tempfile::tempdir().unwrap();
        let quota = Arc::new(MemoryStore::new(Limits::new([limit]).unwrap()).clock(Arc::new(Noon)));
        let ledger =
            SqliteLedger::open(data.path().join("usage.db"), LedgerOptions::new()).unwrap();
        follow(&ledger, &quota).unwrap();
        let tokens = |token: &str| {
            VerifyFuture::ready(match token {
                "forged" => Err(Reason::Signature.into()),
                name => Ok(Arc::new(Identity::builder("test", name).build())),
            })
        };
        let app = app(
            Arc::new(tokens),
            Provisioner::new(data.path().join("users")),
            quota.clone(),
            ledger.clone(),
            PriceList::default(),
            provider().await,
        );
        Self {
            app,
            quota,
            ledger,
            data,
        }
    }

    async fn get_me(&self, token: &str) -> (StatusCode, Value) {
        self.send(Request::get("/me"), token, "").await
    }

    async fn chat(&self, token: &str) -> (StatusCode, Value) {
        let body = r#"{"model":"gpt-4o","max_tokens":100,"messages":[]}"#;
        self.send(Request::post("/v1/chat/completions"), token, body)
            .await
    }

    async fn send(
        &self,
        request: http::request::Builder,
        token: &str,
        body: &'static str,
    ) -> (StatusCode, Value) {
        let request = request
            .header("authorization", format!("Bearer {token}"))
            .body(Body::from(body))
            .unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

/// A provider on this machine, whose answers take 30 tokens. It knows our key and no other.
async fn provider() -> Provider {
    let answer = |request: Request<Body>| async move {
        assert_eq!(request.headers()["authorization"], "Bearer our-key");
        r#"{"id":"1","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":10}}"#
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Router::new().route("/v1/chat/completions", post(answer));
    tokio::spawn(async move { axum::serve(listener, server).await });
    Provider {
        client: client().unwrap(),
        completions: format!("http://{address}/v1/chat/completions")
            .parse()
            .unwrap(),
        authorization: "Bearer our-key".parse().unwrap(),
    }
}

#[tokio::test]
async fn gives_a_user_a_workspace_and_as_many_calls_as_the_plan_allows() {
    let fixture = Fixture::with_limit(Limit::at_most(Dimension::Calls, Window::Day, 1)).await;

    let (status, body) = fixture.get_me("alice").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["user"], "alice");
    assert_eq!(body["workspace"], "alice");
    let files = fixture.data.path().join("users/alice/workspace");
    assert!(files.join("AGENTS.md").is_file());

    let (status, body) = fixture.get_me("alice").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["code"], "daily_calls_exceeded");
    assert_eq!(fixture.get_me("bob").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_model_call_is_recorded_and_settled_by_what_it_took() {
    let fixture = Fixture::with_limit(Limit::at_most(Dimension::Tokens, Window::Day, 30)).await;

    let (status, body) = fixture.chat("alice").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["id"], "1");
    fixture.ledger.flush().await.unwrap();

    let standings = fixture.quota.standings(&"alice".into()).await.unwrap();
    assert_eq!((standings[0].used(), standings[0].reserved()), (30, 0));
    let noon = Noon.now();
    let sum = fixture
        .ledger
        .sum("alice", noon, noon + Duration::from_secs(1))
        .unwrap();
    assert_eq!((sum.records, sum.total_tokens), (1, 30));

    let (status, body) = fixture.chat("alice").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body["code"], "daily_tokens_exceeded");
    assert_eq!(fixture.chat("bob").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_forged_token_gets_nowhere() {
    let fixture = Fixture::with_limit(Limit::unlimited(Dimension::Calls, Window::Day)).await;
    assert_eq!(fixture.get_me("forged").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(fixture.chat("forged").await.0, StatusCode::UNAUTHORIZED);
    assert!(!fixture.data.path().join("users").exists());
}
