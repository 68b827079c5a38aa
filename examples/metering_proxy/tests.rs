use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request as Incoming;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower::ServiceExt;
use tower_usage::sqlite::{LedgerOptions, SqliteLedger};
use tower_usage::{Import, JsonLines, PriceList, Tee};

use super::outbound::{Upstream, boxed};
use super::{User, proxy};

const STREAM: &str = concat!(
    r#"data: {"id":"1","model":"gpt-4o","choices":[{"delta":{"content":"Hello"}}]}"#,
    "\n\n",
    r#"data: {"id":"1","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":10}}"#,
    "\n\ndata: [DONE]\n\n"
);

const PRICES: &str =
    r#"{"gpt-4o": {"input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05}}"#;

/// What was written.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Fixture {
    ledger: Arc<SqliteLedger>,
    lines: Arc<JsonLines>,
    page: Page,
    upstream: String,
    _data: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let page = Page::default();
        Self {
            ledger: SqliteLedger::open(data.path().join("usage.db"), LedgerOptions::new()).unwrap(),
            lines: Arc::new(JsonLines::new(page.clone()).unwrap()),
            page,
            upstream: upstream().await,
            _data: data,
        }
    }

    async fn send(
        &self,
        request: http::request::Builder,
        body: &'static str,
    ) -> (StatusCode, String) {
        let sink = Tee::new(self.ledger.clone()).copy_to(self.lines.clone());
        let prices = PriceList::new(Import::read(PRICES).unwrap().entries).unwrap();
        let proxy = proxy(
            Arc::new(sink),
            prices,
            Upstream::new(&self.upstream).unwrap(),
        );
        let mut request = request
            .header("authorization", "Bearer the-clients-own")
            .header("connection", "x-secret, keep-alive")
            .header("x-secret", "between neighbours")
            .body(boxed(Full::<Bytes>::from(body)))
            .unwrap();
        request.extensions_mut().insert(User("127.0.0.1".into()));
        let response = proxy.oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn records(&self) -> Vec<Value> {
        self.ledger.flush().await.unwrap();
        self.lines.flush();
        let text = String::from_utf8(self.page.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(self.ledger.last_number().unwrap(), lines.len() as u64);
        lines
    }
}

/// A server that speaks OpenAI's API, on this machine.
async fn upstream() -> String {
    let checked = |headers: &HeaderMap| {
        assert_eq!(headers["authorization"], "Bearer the-clients-own");
        assert!(!headers.contains_key("x-secret") && headers.contains_key("host"));
    };
    let chat = move |request: Incoming| async move {
        checked(request.headers());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["stream_options"]["include_usage"], true);
        ([("content-type", "text/event-stream")], STREAM).into_response()
    };
    let models = move |headers: HeaderMap| async move {
        checked(&headers);
        r#"{"data":[]}"#
    };
    let server = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/models", get(models));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, server).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_streamed_answer_is_metered_into_the_ledger_and_the_lines() {
    let fixture = Fixture::new().await;
    let body = r#"{"model":"gpt-4o","stream":true,"messages":[]}"#;
    let (status, stream) = fixture
        .send(Request::post("/v1/chat/completions"), body)
        .await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        stream.contains("Hello") && !stream.contains("usage"),
        "as the client asked: {stream}"
    );
    let records = fixture.records().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["userId"], "127.0.0.1");
    assert_eq!(
        (&records[0]["inputTokens"], &records[0]["outputTokens"]),
        (&20.into(), &10.into())
    );
    // 20 at 2,500 nano-USD, and 10 at 10,000.
    assert_eq!(records[0]["cost"], "0.00015");
}

#[tokio::test]
async fn what_only_reads_goes_by_and_nothing_else_goes_through() {
    let fixture = Fixture::new().await;
    let (status, models) = fixture.send(Request::get("/v1/models"), "").await;
    assert_eq!((status, &*models), (StatusCode::OK, r#"{"data":[]}"#));
    for path in [
        "/v1/embeddings",
        "/v1/chat/completions/",
        "/v1/chat%2Fcompletions",
        "//v1/chat/completions",
    ] {
        let (status, _) = fixture.send(Request::post(path), "{}").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(fixture.records().await.is_empty());
}

#[tokio::test]
async fn a_server_that_is_away_costs_nothing() {
    let mut fixture = Fixture::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    fixture.upstream = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let (status, _) = fixture
        .send(Request::post("/v1/chat/completions"), body)
        .await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    let records = fixture.records().await;
    assert_eq!(
        (&records[0]["outcome"], &records[0]["cost"]),
        (&"failed".into(), &"0.00".into())
    );
}
