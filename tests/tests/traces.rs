//! Traces of a running gateway before the real OpenClaw, read by the protocol's own types.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, time::Duration};

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
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// Traces of clients.
const OF_UPGRADE: (&str, &str) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
const OF_FRAME: (&str, &str) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");

fn traceparent((trace, span): (&str, &str)) -> String {
    format!("00-{trace}-{span}-01")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(of: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        other => unreachable!("{other:?}"),
    };
    of.iter()
        .map(|pair| (pair.key.clone(), text(pair)))
        .collect()
}

/// Everything that the collector has.
fn spans(collector: &Webhook) -> Vec<Span> {
    let mut spans = Vec::new();
    for delivery in collector.deliveries() {
        assert_eq!(delivery.uri.path(), "/v1/traces");
        assert_eq!(delivery.headers["content-type"], "application/x-protobuf");
        let message = ExportTraceServiceRequest::decode(delivery.body).expect("protobuf");
        for of_resource in message.resource_spans {
            let resource = of_resource.resource.expect("a resource");
            let resource = attributes(&resource.attributes);
            assert_eq!(resource["service.name"], "front-door");
            assert!(resource.contains_key("service.instance.id"), "{resource:?}");
            spans.extend(
                of_resource
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans),
            );
        }
    }
    spans
}

/// Waits for a span.
async fn until(collector: &Webhook, what: &str, is_it: impl Fn(&Span) -> bool) -> Span {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(span) = spans(collector).into_iter().find(|span| is_it(span)) {
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
            return span;
        }
        let all: Vec<_> = spans(collector).into_iter().map(|span| span.name).collect();
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
    let collector = Webhook::start(http::StatusCode::OK).await?;
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
    assert_eq!(hex(&upgrade.trace_id), OF_UPGRADE.0);
    assert_eq!(hex(&upgrade.parent_span_id), OF_UPGRADE.1);
    assert_eq!(upgrade.kind(), SpanKind::Server);
    let said = attributes(&upgrade.attributes);
    assert_eq!(said["http.response.status_code"], "101");
    assert_eq!(said["enduser.pseudo.id"].len(), 16);
    let connect = until(&collector, "connect", |span| span.name == "connect").await;
    assert_eq!(connect.trace_id, upgrade.trace_id);
    assert_eq!(connect.parent_span_id, upgrade.span_id);
    assert_eq!(
        attributes(&connect.attributes)["gateway.instance"],
        "pool-1"
    );

    let run = until(&collector, "the run", |span| span.name == "run").await;
    assert_eq!(hex(&run.trace_id), OF_FRAME.0);
    assert_eq!(hex(&run.parent_span_id), OF_FRAME.1);
    assert_eq!(attributes(&run.attributes)["rpc.method"], "chat.send");
    assert_eq!(run.status, None, "it has not failed");
    let link = run.links.first().expect("where it came from");
    assert_eq!(
        (&link.trace_id, &link.span_id),
        (&connect.trace_id, &connect.span_id)
    );

    // OpenClaw passes on the trace, and names a span of its own.
    let of_run = |span: &Span| span.trace_id == run.trace_id;
    let egress = "POST /{provider}/v1/chat/completions";
    let asked = until(&collector, "egress", |span| {
        of_run(span) && span.name == egress
    })
    .await;
    let call = until(&collector, "the model call", |span| {
        of_run(span) && span.name == "model call"
    })
    .await;
    assert_eq!(call.kind(), SpanKind::Client);
    assert_eq!(call.parent_span_id, asked.span_id);
    let said = attributes(&call.attributes);
    assert_eq!(said["gen_ai.provider.name"], "openai");
    assert!(
        said["gen_ai.request.model"].starts_with("test-"),
        "{said:?}"
    );
    let at_provider = kit.provider().calls_about(&mark).await?;
    let told = at_provider
        .first()
        .and_then(|call| call.traceparent.clone());
    let own = (&*hex(&call.trace_id), &*hex(&call.span_id));
    assert_eq!(told, Some(traceparent(own)));

    // A request that fails says so, and what was asked is not in it.
    let stranger = gateway.url(&format!("/api/user/info?token={mark}"));
    let answer = http::get(&stranger, Some(&mark)).await?;
    assert_eq!(answer.status.as_u16(), 401);
    until(&collector, "a refusal", |span| {
        attributes(&span.attributes)
            .get("http.response.status_code")
            .is_some_and(|code| code == "401")
    })
    .await;
    for delivery in collector.deliveries() {
        let text = String::from_utf8_lossy(&delivery.body);
        for word in [
            &*mark,
            "alice",
            "@",
            "Bearer",
            &alice.token,
            &kit.provider_key,
        ] {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }

    collector_is_gone(&gateway, &alice, collector).await
}

/// Nobody waits for a collector that does not answer, and what it did not take is counted.
async fn collector_is_gone(gateway: &Gateway, alice: &Person, collector: Webhook) -> Result<()> {
    let dropped = "gateway_spans_dropped_total{why=\"collector\"}";
    assert_eq!(metric(gateway, dropped).await?, 0);
    assert!(metric(gateway, "gateway_spans_sent_total").await? >= 5);
    collector.answer(http::StatusCode::SERVICE_UNAVAILABLE);
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

#[test]
fn a_status_is_what_it_is_in_the_protocol() {
    assert_eq!(StatusCode::Error as i32, 2);
}
