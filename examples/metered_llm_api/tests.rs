use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_usage::sqlite::{LedgerOptions, SqliteLedger};

use super::{User, app};

struct Fixture {
    app: Router,
    ledger: Arc<SqliteLedger>,
    _data: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("usage.db");
        let ledger = SqliteLedger::open(path, LedgerOptions::new()).unwrap();
        let keys = [("alice", "sk-1"), ("bob", "sk-2")];
        let keys = keys.map(|(user, key)| (format!("Bearer {key}"), User::from(user)));
        Self {
            app: app(Arc::new(keys.into()), ledger.clone()).unwrap(),
            ledger,
            _data: data,
        }
    }

    async fn send(
        &self,
        request: http::request::Builder,
        key: &str,
        body: &Value,
    ) -> (StatusCode, String) {
        let request = request
            .header("authorization", format!("Bearer {key}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn chat(&self, key: &str, stream: bool) -> (StatusCode, String) {
        let body = json!({ "model": "any", "stream": stream, "messages": [{ "content": "one two three" }] });
        self.send(Request::post("/v1/chat/completions"), key, &body)
            .await
    }

    async fn usage(&self, key: &str) -> Value {
        self.ledger.flush().await.unwrap();
        let (status, usage) = self.send(Request::get("/usage"), key, &Value::Null).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_str(&usage).unwrap()
    }
}

#[tokio::test]
async fn each_user_sees_what_its_calls_took_whole_and_streamed() {
    let fixture = Fixture::new();
    let (status, answer) = fixture.chat("sk-1", false).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "one two three");

    let (status, stream) = fixture.chat("sk-1", true).await;
    assert_eq!(status, StatusCode::OK);
    assert!(stream.contains("two ") && stream.ends_with("data: [DONE]\n\n"));
    assert!(
        !stream.contains("prompt_tokens"),
        "nobody asked for usage: {stream}"
    );

    // Twice three tokens in, at 500 nano-USD each, and three out at 1,500.
    let usage = json!({ "tokens": 12, "cost": "0.000012" });
    assert_eq!(fixture.usage("sk-1").await, usage);
    assert_eq!(
        fixture.usage("sk-2").await,
        json!({ "tokens": 0, "cost": "0.00" })
    );
}

#[tokio::test]
async fn without_a_key_nothing_is_answered_or_recorded() {
    let fixture = Fixture::new();
    assert_eq!(fixture.chat("", false).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(
        fixture.chat("alice", false).await.0,
        StatusCode::UNAUTHORIZED
    );
    fixture.ledger.flush().await.unwrap();
    assert_eq!(fixture.ledger.last_number().unwrap(), 0);
}

#[tokio::test]
async fn what_is_no_chat_completion_is_refused() {
    let fixture = Fixture::new();
    let completions = || Request::post("/v1/chat/completions");
    let (status, _) = fixture.send(completions(), "sk-1", &json!([1])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(fixture.usage("sk-1").await["tokens"], 0);
}
