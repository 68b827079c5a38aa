//! The stacks as they are built in `stack.rs`: each layer that stands there does what it stands there for. A test here
//! fails when the layer's line is deleted.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use gateway::config::ProviderKind;
use gateway::egress::{Egress, ForwardCall, OwnKeys, Target, VirtualKeys};
use gateway::instance::Gate;
use gateway::protocol::parse_request;
use gateway::rpc::{Forward, Outgoing, Reply, RpcRequest, RpcResponse, RunCharge};
use gateway::stack::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tower::ServiceExt;
use tower_quota::{Amounts, Charge, Dimension, MemoryStore, QuotaStore};
use tower_service::Service;
use tower_sso::Identity;
use tower_usage::{NanoUsd, Operation, Outcome};

use crate::fixture::{Fixture, fixture};

/// Uses up all of one dimension.
async fn use_up(quota: &MemoryStore, dimension: Dimension, amount: u64) {
    let charge = Charge::new("alice").exactly(dimension, amount);
    let granted = quota.reserve(&charge).await.unwrap();
    quota
        .settle(granted.ticket(), Amounts::new().with(dimension, amount))
        .await
        .unwrap();
}

// === frames ===

struct Frames<S> {
    stack: S,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
}

fn frames(
    parts: &Parts,
) -> Frames<impl Service<RpcRequest, Response = RpcResponse, Error = Infallible>> {
    frames_of(parts, RunCharge::new(false))
}

fn frames_of(
    parts: &Parts,
    charge: RunCharge,
) -> Frames<impl Service<RpcRequest, Response = RpcResponse, Error = Infallible> + use<>> {
    let (queue, outgoing) = mpsc::unbounded_channel();
    Frames {
        stack: parts.frames(charge, Forward::new(queue, Gate::default())),
        outgoing,
    }
}

impl<S: Service<RpcRequest, Response = RpcResponse, Error = Infallible>> Frames<S> {
    /// Sends one frame of `user`; the instance, if it gets it, answers with `payload`. What it got, and the answer.
    fn send(&mut self, user: &str, method: &str, payload: &Value) -> (Option<Value>, Value) {
        let params = match method {
            "chat.send" => json!({"sessionKey": "main", "message": "hi", "idempotencyKey": "k"}),
            _ => json!({"sessionKey": "main"}),
        };
        let text =
            json!({"type": "req", "id": "1", "method": method, "params": params}).to_string();
        let turn = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let identity = Arc::new(Identity::builder("https://issuer.example", user).build());
        let request = RpcRequest::new(parse_request(&text).unwrap(), identity, turn.into());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(self.stack.poll_ready(&mut cx).is_ready());
        let mut future = pin!(self.stack.call(request));
        let early = future.as_mut().poll(&mut cx);
        let Ok(sent) = self.outgoing.try_recv() else {
            let Poll::Ready(Ok(refusal)) = early else {
                panic!("neither sent nor refused")
            };
            return (None, serde_json::from_str(&refusal.text).unwrap());
        };
        let answer = json!({"type": "res", "id": "1", "ok": true, "payload": payload}).to_string();
        let started_run = (payload["status"] == "started").then(|| "run-1".into());
        let reply = Reply::Response(RpcResponse {
            text: answer.into(),
            started_run,
        });
        assert!(sent.reply.send(reply).is_ok());
        let Poll::Ready(Ok(answer)) = future.as_mut().poll(&mut cx) else {
            panic!("answered")
        };
        (
            serde_json::from_str(&sent.text).ok(),
            serde_json::from_str(&answer.text).unwrap(),
        )
    }
}

#[test]
fn frames_work_in_the_workspace_of_their_user_and_nowhere_else() {
    let fixture = fixture(VirtualKeys::default());
    let mut frames = frames(&fixture.parts);
    let (sent, _) = frames.send("alice", "chat.history", &json!({}));
    assert_eq!(
        sent.unwrap()["params"]["sessionKey"],
        "agent:user-alice:main"
    );
    let (sent, answer) = frames.send("mallory", "chat.history", &json!({}));
    assert_eq!(sent, None, "no workspace, no session");
    assert_eq!(
        answer["error"]["details"]["code"], "WORKSPACE_MISSING",
        "{answer}"
    );
}

#[tokio::test]
async fn frames_that_start_runs_are_held_to_the_quota() {
    for (dimension, amount, code) in [
        (Dimension::Calls, 1, "API_CALLS_EXCEEDED"),
        (Dimension::Tokens, 5, "DAILY_TOKENS_EXCEEDED"),
        (Dimension::Cost, 10_000_000, "DAILY_COST_EXCEEDED"),
    ] {
        let fixture = fixture(VirtualKeys::default());
        let mut frames = frames(&fixture.parts);
        use_up(&fixture.quota, dimension, amount).await;
        let (sent, answer) = frames.send("alice", "chat.send", &json!({"status": "started"}));
        assert_eq!(sent, None, "{code}");
        assert_eq!(answer["error"]["code"], code);
        assert_eq!(answer["error"]["retryable"], false);
        assert!(
            fixture.records.take().is_empty(),
            "{code}: nothing was taken"
        );
        let (sent, _) = frames.send("alice", "chat.history", &json!({}));
        assert!(sent.is_some(), "{code}: reading costs nothing");

        // The shipped page reads in the conversation what egress says of tokens and cost.
        let mut page = frames_of(&fixture.parts, RunCharge::new(true));
        let (sent, _) = page.send("alice", "chat.send", &json!({"status": "started"}));
        assert_eq!(sent.is_some(), dimension != Dimension::Calls, "{code}");
    }
}

#[tokio::test]
async fn a_run_that_started_is_recorded_and_one_that_did_not_is_given_back() {
    let fixture = fixture(VirtualKeys::default());
    let mut frames = frames(&fixture.parts);
    for status in ["in_flight", "ok"] {
        let (sent, _) = frames.send("alice", "chat.send", &json!({"status": status}));
        assert!(
            sent.is_some(),
            "the only call of the day was given back: {status}"
        );
        assert!(fixture.records.take().is_empty(), "{status} is no new run");
    }
    frames.send("alice", "chat.send", &json!({"status": "started"}));
    let records = fixture.records.take();
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}")
    };
    assert_eq!(
        (&*record.subject, record.operation, record.calls),
        ("alice", Operation::Run, 1)
    );
    assert_eq!(record.run_id.as_deref(), Some("run-1"));
    assert_eq!(record.session_key.as_deref(), Some("agent:user-alice:main"));
    let ticket = record.settle_ref.as_deref().unwrap().parse().unwrap();
    fixture
        .quota
        .settle(&ticket, Amounts::new().calls(1))
        .await
        .unwrap();
    let (sent, _) = frames.send("alice", "chat.send", &json!({"status": "started"}));
    assert_eq!(sent, None, "settled by the ledger, the call is used");
}

#[test]
fn a_run_whose_connection_is_gone_is_recorded_because_it_goes_on() {
    let fixture = fixture(VirtualKeys::default());
    let (queue, mut outgoing) = mpsc::unbounded_channel();
    let mut stack = fixture
        .parts
        .frames(RunCharge::new(false), Forward::new(queue, Gate::default()));
    let text = r#"{"type":"req","id":"1","method":"chat.send","params":{"message":"hi","idempotencyKey":"run-2"}}"#;
    let turn = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let identity = Arc::new(Identity::builder("https://issuer.example", "alice").build());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(stack.poll_ready(&mut cx).is_ready());
    {
        let mut future = pin!(stack.call(RpcRequest::new(
            parse_request(text).unwrap(),
            identity,
            turn.into()
        )));
        assert!(future.as_mut().poll(&mut cx).is_pending());
    }
    assert!(outgoing.try_recv().is_ok(), "the instance has it");
    let records = fixture.records.take();
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}")
    };
    assert_eq!(record.run_id.as_deref(), Some("run-2"));
    assert!(record.settle_ref.is_some(), "and its call is used");
}

#[tokio::test]
async fn a_run_waits_while_agents_are_made_and_frames_behind_it_keep_their_order() {
    let fixture = fixture(VirtualKeys::default());
    let gate = Gate::default();
    let (queue, mut outgoing) = mpsc::unbounded_channel();
    let mut stack = fixture
        .parts
        .frames(RunCharge::new(false), Forward::new(queue, gate.clone()));
    let turns = Arc::new(Semaphore::new(1));
    let identity = Arc::new(Identity::builder("https://issuer.example", "alice").build());
    let text = r#"{"type":"req","id":"1","method":"chat.send","params":{"message":"hi","idempotencyKey":"k"}}"#;
    let mut cx = Context::from_waker(Waker::noop());
    let changing = gate.change().await;
    assert!(changing.is_some());
    assert!(stack.poll_ready(&mut cx).is_ready());
    let turn = Arc::clone(&turns).try_acquire_owned().unwrap();
    let mut future = pin!(stack.call(RpcRequest::new(
        parse_request(text).unwrap(),
        identity,
        turn.into()
    )));
    assert!(future.as_mut().poll(&mut cx).is_pending());
    assert!(
        outgoing.try_recv().is_err(),
        "not while the configuration changes"
    );
    assert_eq!(
        turns.available_permits(),
        0,
        "the next frame waits behind it"
    );
    drop(changing);
    assert!(future.as_mut().poll(&mut cx).is_pending());
    assert!(outgoing.try_recv().is_ok());
    assert_eq!(turns.available_permits(), 1);
}

// === egress ===

/// A provider that answers every call with ten tokens, and its URL.
async fn provider() -> String {
    let answer = json!({
        "id": "chatcmpl-1", "model": "m", "choices": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    });
    let app = Router::new().route(
        "/v1/chat/completions",
        post(move |request: Request<axum::body::Body>| {
            let answer = answer.clone();
            async move {
                let headers = request.headers();
                if headers["authorization"] != "Bearer real-key" {
                    let error = json!({"error": {"message": "no", "code": "invalid_api_key"}});
                    return (StatusCode::UNAUTHORIZED, axum::Json(error));
                }
                assert!(!headers.contains_key("idempotency-key"), "nobody asked");
                (StatusCode::OK, axum::Json(answer))
            }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(app.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    url
}

async fn egress(model: &str, known_key: bool) -> (Fixture, Call) {
    egress_to(model, known_key, "real-key").await
}

async fn egress_to(model: &str, known_key: bool, provider_key: &str) -> (Fixture, Call) {
    let keys = VirtualKeys::default();
    let minted = keys.mint(&"alice".into()).unwrap();
    if known_key {
        keys.admit(&minted.row);
    }
    let fixture = fixture(keys);
    let provider = format!(
        "name = \"openai\"\nkind = \"openai\"\nbase_url = \"{}\"\napi_key = \"{provider_key}\"\nmodels = [{{ id = \"m\" }}]",
        provider().await
    );
    let target = Target::new(&toml::from_str(&provider).unwrap()).unwrap();
    let call = Call {
        model: model.to_owned(),
        key: minted.key.expose().to_owned(),
        parts: fixture.parts.clone(),
        targets: [Arc::new(target)].into(),
    };
    (fixture, call)
}

struct Call {
    model: String,
    key: String,
    parts: Parts,
    targets: Arc<[Arc<Target>]>,
}

impl Call {
    async fn send(&self) -> (StatusCode, Response<()>, Value) {
        let body = json!({"model": self.model, "messages": []}).to_string();
        let request = Request::post("/openai/v1/chat/completions")
            .header("authorization", format!("Bearer {}", self.key))
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let forward = ForwardCall::new(OwnKeys::none()).unwrap();
        let calls = |kind| self.parts.model_calls(kind, forward.clone());
        let (openai, anthropic) = (calls(ProviderKind::Openai), calls(ProviderKind::Anthropic));
        let stack = Egress::new(Arc::clone(&self.targets), openai, anthropic);
        let Ok(response) = stack.oneshot(request).await;
        let (head, body) = response.into_parts();
        let Ok(body) = body.collect().await else {
            panic!("the body ends well")
        };
        let value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        (head.status, Response::from_parts(head, ()), value)
    }
}

#[tokio::test]
async fn a_model_call_is_recorded_to_the_token() {
    let (fixture, call) = egress("m", true).await;
    let (status, _, answer) = call.send().await;
    assert_eq!(status, 200, "{answer}");
    let records = fixture.records.take();
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}")
    };
    assert_eq!((&*record.subject, record.tokens.total()), ("alice", 10));
    assert_eq!(
        record.cost,
        Some(NanoUsd::from_nanos(7 * 1_000 + 3 * 2_000))
    );
    assert_eq!(record.response_id.as_deref(), Some("chatcmpl-1"));
    assert!(
        record.settle_ref.is_some(),
        "the ledger settles what quota set aside"
    );
}

#[tokio::test]
async fn a_model_call_is_held_to_the_quota_in_words_that_a_person_can_read() {
    let (fixture, call) = egress("m", true).await;
    use_up(&fixture.quota, Dimension::Tokens, 5).await;
    let (status, head, answer) = call.send().await;
    assert_eq!(status, 429);
    let wait: u64 = head.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=86_400).contains(&wait), "until the reset");
    assert_eq!(
        answer["error"]["code"], "daily_tokens_exceeded",
        "never insufficient_quota"
    );
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("Daily token limit exceeded (5 / 5 tokens). "),
        "{message}"
    );
    assert!(fixture.records.take().is_empty(), "nothing was called");
}

#[tokio::test]
async fn what_a_model_call_may_take_is_held_while_it_runs() {
    let (fixture, call) = egress("m", true).await;
    call.send().await;
    let standings = fixture.quota.standings(&"alice".into()).await.unwrap();
    let tokens = standings
        .iter()
        .find(|s| s.limit().dimension() == Dimension::Tokens)
        .unwrap();
    assert_eq!(
        tokens.reserved(),
        5,
        "all that was left, until the ledger settles"
    );
    let (status, ..) = call.send().await;
    assert_eq!(status, 429, "a second call finds nothing left");
}

#[tokio::test]
async fn a_model_call_without_a_key_in_force_reaches_nobody() {
    let (fixture, call) = egress("m", false).await;
    let (status, ..) = call.send().await;
    assert_eq!(status, 401);
    assert!(fixture.records.take().is_empty());
}

#[tokio::test]
async fn a_model_call_for_who_is_disabled_reaches_nobody_and_disturbs_no_other() {
    let (fixture, mut call) = egress("m", true).await;
    call.parts.is_disabled = Arc::new(|user_id| user_id == "alice");
    let (status, head, answer) = call.send().await;
    assert_eq!(
        status, 429,
        "any other status disables the provider for all"
    );
    assert!(head.headers().contains_key("retry-after"));
    assert_eq!(answer["error"]["code"], "user_disabled");
    assert!(fixture.records.take().is_empty());
    call.parts.is_disabled = Arc::new(|user_id| user_id == "bob");
    assert_eq!(call.send().await.0, 200);
}

#[tokio::test]
async fn a_model_that_is_not_offered_is_refused_and_costs_nothing() {
    let (fixture, call) = egress("another", true).await;
    let (status, _, answer) = call.send().await;
    assert_eq!(status, 404);
    assert_eq!(answer["error"]["code"], "model_not_found");
    let records = fixture.records.take();
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}")
    };
    assert_eq!(
        (record.outcome, record.tokens.total()),
        (Outcome::Failed, 0)
    );
}

#[tokio::test]
async fn d6_59_a_key_that_the_provider_refuses_is_no_refusal_of_the_callers_and_recorded_as_it_was()
{
    let (fixture, call) = egress_to("m", true, "revoked-key").await;
    let (status, _, answer) = call.send().await;
    assert_eq!(status, 502);
    assert_eq!(answer["error"]["code"], "provider_refused");
    let records = fixture.records.take();
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}")
    };
    assert_eq!(record.outcome, Outcome::Failed);
    assert_eq!(
        record.metadata.as_deref(),
        Some(r#"{"status":401,"error":"invalid_api_key"}"#)
    );
}
