//! Traces of a running gateway before the real OpenClaw, read by the protocol's own types.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod spans;

use std::time::Duration;

use ::http::StatusCode;
use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    person::{Person, connect_params, send_params},
    provider::Provider,
    secret,
    webhook::Webhook,
    ws::Ws,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::spans::{CLIENT, SERVER, Span};

/// Traces of clients.
const OF_UPGRADE: (&str, &str) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
const OF_FRAME: (&str, &str) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");

fn traceparent((trace, span): (&str, &str)) -> String {
    format!("00-{trace}-{span}-01")
}

/// Everything that the collector has.
fn spans_at(collector: &Webhook) -> Vec<Span> {
    let mut all = Vec::new();
    for delivery in collector.deliveries() {
        assert_eq!(delivery.uri.path(), "/v1/traces");
        let kind = delivery.headers.get("content-type").expect("a type");
        assert_eq!(kind, "application/x-protobuf");
        all.extend(spans::spans(&delivery.body));
    }
    for span in &all {
        assert_eq!(
            span.resource.get("service.name").map(String::as_str),
            Some("front-door")
        );
        assert!(
            span.resource.contains_key("service.instance.id"),
            "{span:?}"
        );
    }
    all
}

fn said<'a>(span: &'a Span, key: &str) -> &'a str {
    span.attributes.get(key).map_or("", String::as_str)
}

/// Waits for a span.
async fn until(collector: &Webhook, what: &str, is_it: impl Fn(&Span) -> bool) -> Span {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(span) = spans_at(collector).into_iter().find(|span| is_it(span)) {
            assert!(0 < span.begin && span.begin <= span.end);
            return span;
        }
        let all: Vec<_> = spans_at(collector)
            .into_iter()
            .map(|span| span.name)
            .collect();
        assert!(Instant::now() < deadline, "{what}: {all:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

async fn metric(gateway: &Gateway, name: &str) -> Result<u64> {
    let answer = http::get(&gateway.admin_url("/metrics"), None).await?;
    let text = answer.text();
    let start = format!("{name} ");
    let mut values = text.lines().filter_map(|line| line.strip_prefix(&*start));
    Ok(values
        .next()
        .and_then(|value| value.parse().ok())
        .unwrap_or(0))
}

#[tokio::test]
async fn a_run_is_one_trace_from_the_client_to_the_provider_and_names_nobody() -> Result<()> {
    let mut kit = Kit::from_env()?;
    let provider = Provider::start([kit.provider_key.as_str()]).await?;
    kit.provider = provider.url();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let collector = Webhook::start(StatusCode::OK).await?;
    let mut config = Config::new(&kit, dir.path())?;
    config.text += &format!(
        "\n[telemetry]\notlp = \"{}\"\nservice_name = \"front-door\"\n",
        collector.url("")
    );
    let gateway = Gateway::start(config, dir.path()).await?;
    let alice = Person::sign_in(&kit, "alice", &gateway).await?;
    let mark = secret::mark()?;

    let bearer = format!("Bearer {}", alice.token);
    let of_upgrade = traceparent(OF_UPGRADE);
    let headers = [
        ("authorization", bearer.as_str()),
        ("traceparent", &of_upgrade),
    ];
    let mut ws = Ws::connect(&gateway.ws_url("/ws"), &headers).await?;
    ws.event("connect.challenge").await?;
    ws.call("connect", connect_params(&json!({}))).await?;
    let mut params = send_params(&mark)?;
    params["message"] = format!("{mark} tell nobody").into();
    let frame = json!({
        "type": "req", "id": "run", "method": "chat.send", "params": params, "traceparent": traceparent(OF_FRAME),
    });
    ws.send(frame.to_string()).await?;
    assert_eq!(ws.response("run").await?["ok"], true);
    ws.find(|frame| frame["event"] == "chat" && frame["payload"]["state"] == "final")
        .await?;

    let upgrade = until(&collector, "the upgrade", |span| span.name == "GET /ws").await;
    assert_eq!((&*upgrade.trace, &*upgrade.parent), OF_UPGRADE);
    assert_eq!(upgrade.kind, SERVER);
    assert_eq!(said(&upgrade, "http.response.status_code"), "101");
    assert_eq!(said(&upgrade, "enduser.pseudo.id").len(), 16);
    let connect = until(&collector, "connect", |span| span.name == "connect").await;
    assert_eq!(
        (&connect.trace, &connect.parent),
        (&upgrade.trace, &upgrade.span)
    );
    assert_eq!(said(&connect, "gateway.instance"), "pool-1");
    assert_eq!(connect.status, 0, "it has not failed");

    let run = until(&collector, "the run", |span| span.name == "run").await;
    assert_eq!((&*run.trace, &*run.parent), OF_FRAME);
    assert_eq!(said(&run, "rpc.method"), "chat.send");
    assert_eq!(run.status, 0, "it has not failed");
    assert_eq!(run.links, [(connect.trace, connect.span)]);

    // OpenClaw passes on the trace, and names a span of its own.
    let of_run = |span: &Span| span.trace == run.trace;
    let egress = "POST /{provider}/v1/chat/completions";
    let asked = until(&collector, "egress", |span| {
        of_run(span) && span.name == egress
    })
    .await;
    let call = until(&collector, "the model call", |span| {
        of_run(span) && span.name == "model call"
    })
    .await;
    assert_eq!(call.kind, CLIENT);
    assert_eq!(call.parent, asked.span);
    assert_eq!(said(&call, "gen_ai.provider.name"), "openai");
    assert!(
        said(&call, "gen_ai.request.model").starts_with("test-"),
        "{call:?}"
    );
    let at_provider = kit.provider().calls_about(&mark).await?;
    let told = at_provider
        .first()
        .and_then(|call| call.traceparent.clone());
    assert_eq!(told, Some(traceparent((&call.trace, &call.span))));

    // A request that fails says so, and what was asked is not in it.
    let stranger = gateway.url(&format!("/api/user/info?token={mark}"));
    let answer = http::get(&stranger, Some(&mark)).await?;
    assert_eq!(answer.status.as_u16(), 401);
    let refused = |span: &Span| said(span, "http.response.status_code") == "401";
    until(&collector, "a refusal", refused).await;
    for delivery in collector.deliveries() {
        let text = String::from_utf8_lossy(&delivery.body);
        for word in [&*mark, "alice", "Bearer", &alice.token, &kit.provider_key] {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }
    // Ids and times are bytes of any kind: an address's sign is looked for in what is text.
    for span in spans_at(&collector) {
        let text = format!("{span:?}");
        assert!(!text.contains('@'), "{text}");
    }

    collector_is_gone(&gateway, &alice, collector).await
}

/// Nobody waits for a collector that does not answer, and what it did not take is counted.
async fn collector_is_gone(gateway: &Gateway, alice: &Person, collector: Webhook) -> Result<()> {
    let dropped = "gateway_spans_dropped_total{why=\"collector\"}";
    assert_eq!(metric(gateway, dropped).await?, 0);
    assert!(metric(gateway, "gateway_spans_sent_total").await? >= 5);
    collector.answer(StatusCode::SERVICE_UNAVAILABLE);
    let mut socket = alice.open().await?;
    assert_eq!(socket.turn("hello").await?.state, "final");
    let deadline = Instant::now() + Duration::from_secs(30);
    while metric(gateway, dropped).await? == 0 {
        assert!(Instant::now() < deadline, "{}", gateway.log()?);
        sleep(Duration::from_millis(200)).await;
    }
    drop(collector);
    let begun = metric(gateway, dropped).await?;
    assert_eq!(socket.turn("are you there?").await?.state, "final");
    while metric(gateway, dropped).await? == begun {
        assert!(Instant::now() < deadline, "{}", gateway.log()?);
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
