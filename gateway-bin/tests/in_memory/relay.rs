//! A relay between a client and an instance that does what the real one cannot be made to do on demand.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use gateway::egress::VirtualKeys;
use gateway::instance::Gate;
use gateway::protocol::{Owner, Policy};
use gateway::rpc::{Forward, RunCharge};
use gateway::socket::{Credential, End, Relay};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_websockets::{ClientBuilder, CloseCode, Message, ServerBuilder, WebSocketStream};
use tower_sso::Identity;

use crate::fixture::{Fixture, fixture};

pub(crate) type Client = WebSocketStream<DuplexStream>;
pub(crate) type Instance = WebSocketStream<TcpStream>;

/// Alice's socket: her end, the instance's end, and what the relay ends with.
async fn relay(stop: &CancellationToken) -> (Client, Instance, JoinHandle<End>, Fixture) {
    relay_under(Policy::Pool, stop).await
}

pub(crate) async fn relay_under(
    policy: Policy,
    stop: &CancellationToken,
) -> (Client, Instance, JoinHandle<End>, Fixture) {
    relay_until(policy, stop, &CancellationToken::new()).await
}

async fn relay_until(
    policy: Policy,
    stop: &CancellationToken,
    leave: &CancellationToken,
) -> (Client, Instance, JoinHandle<End>, Fixture) {
    let fixture = fixture(VirtualKeys::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (theirs, _) = listener.accept().await.unwrap();
    let (near, far) = tokio::io::duplex(64 << 10);
    let (queue, outgoing) = mpsc::unbounded_channel();
    let alice = Arc::new(Identity::builder("https://issuer.example", "alice").build());
    let relay = Relay::new(
        ServerBuilder::new().serve(near),
        ClientBuilder::new().take_over(ours),
        fixture
            .parts
            .frames(RunCharge::new(false), Forward::new(queue, Gate::default())),
        outgoing,
        Credential::new(alice, None),
        Owner::new("user-alice", "alice"),
        Gate::default(),
    )
    .under(policy)
    .stopped_by(stop.clone())
    .leaving_on(leave.clone());
    let ended = tokio::spawn(async move {
        let (_client, end) = relay.run().await;
        end
    });
    (
        ClientBuilder::new().take_over(far),
        ServerBuilder::new().serve(theirs),
        ended,
        fixture,
    )
}

pub(crate) async fn next<C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<C>,
) -> Value {
    loop {
        let message = socket.next().await.unwrap().unwrap();
        if let Some(text) = message.as_text() {
            return serde_json::from_str(text).unwrap();
        }
    }
}

fn send(id: &str) -> Message {
    let params = json!({"message": "hi", "idempotencyKey": id});
    Message::text(
        json!({"type": "req", "id": id, "method": "chat.send", "params": params}).to_string(),
    )
}

fn history(id: usize) -> Message {
    let frame =
        json!({"type": "req", "id": id.to_string(), "method": "chat.history", "params": {}});
    Message::text(frame.to_string())
}

fn event(agent: &str, seq: u64) -> Message {
    let payload = json!({"agentId": agent, "sessionKey": format!("agent:{agent}:main"), "n": seq});
    Message::text(
        json!({"type": "event", "event": "chat", "payload": payload, "seq": seq}).to_string(),
    )
}

#[tokio::test]
async fn an_answer_comes_before_the_events_behind_it_and_both_before_the_close() {
    let stop = CancellationToken::new();
    let (mut client, mut instance, ended, _fixture) = relay(&stop).await;
    client.send(send("run-1")).await.unwrap();
    assert_eq!(next(&mut instance).await["id"], "run-1");
    let started = json!({"type": "res", "id": "run-1", "ok": true, "payload": {"runId": "run-1", "status": "started"}});
    // One burst: the answer, events, the end.
    instance
        .feed(Message::text(started.to_string()))
        .await
        .unwrap();
    for seq in 1..=50 {
        instance.feed(event("user-alice", seq)).await.unwrap();
    }
    instance
        .feed(Message::close(
            Some(CloseCode::SERVICE_RESTART),
            "service restart",
        ))
        .await
        .unwrap();
    instance.flush().await.unwrap();
    assert_eq!(next(&mut client).await["type"], "res");
    for seq in 1..=50 {
        assert_eq!(next(&mut client).await["seq"], seq);
    }
    assert_eq!(
        ended.await.unwrap(),
        End::Instance(1012, "service restart".into())
    );
}

#[tokio::test]
async fn events_of_others_leave_no_gap() {
    let stop = CancellationToken::new();
    let (mut client, mut instance, _ended, _fixture) = relay(&stop).await;
    for (seq, agent) in (1..).zip([
        "user-alice",
        "user-bob",
        "user-bob",
        "user-alice",
        "main",
        "user-alice",
    ]) {
        instance.feed(event(agent, seq)).await.unwrap();
    }
    instance.flush().await.unwrap();
    for (seq, n) in [(1, 1), (2, 4), (3, 6)] {
        let event = next(&mut client).await;
        assert_eq!(
            (&event["seq"], &event["payload"]["n"]),
            (&json!(seq), &json!(n))
        );
    }
}

#[tokio::test]
async fn frames_keep_their_order_and_answers_may_come_in_any() {
    let stop = CancellationToken::new();
    let (mut client, mut instance, _ended, _fixture) = relay(&stop).await;
    for id in 0..40 {
        client.feed(history(id)).await.unwrap();
    }
    client.flush().await.unwrap();
    for id in 0..40 {
        assert_eq!(next(&mut instance).await["id"], id.to_string());
    }
    for id in (0..40).rev() {
        let answer = json!({"type": "res", "id": id.to_string(), "ok": true, "payload": {}});
        instance
            .feed(Message::text(answer.to_string()))
            .await
            .unwrap();
    }
    instance.flush().await.unwrap();
    for id in (0..40).rev() {
        assert_eq!(next(&mut client).await["id"], id.to_string());
    }
}

#[tokio::test]
async fn what_was_said_last_reaches_the_instance() {
    let stop = CancellationToken::new();
    let (mut client, mut instance, ended, fixture) = relay(&stop).await;
    client.feed(send("last")).await.unwrap();
    client
        .feed(Message::close(Some(CloseCode::NORMAL_CLOSURE), ""))
        .await
        .unwrap();
    client.flush().await.unwrap();
    assert_eq!(next(&mut instance).await["id"], "last");
    while let Some(Ok(message)) = instance.next().await {
        assert!(message.is_close(), "the instance is told");
    }
    assert_eq!(ended.await.unwrap(), End::Client);
    let records = fixture.records.take();
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}")
    };
    assert_eq!(
        record.run_id.as_deref(),
        Some("last"),
        "the run goes on without its client"
    );
}

#[tokio::test]
async fn an_id_that_waits_for_its_answer_cannot_be_used_again() {
    let stop = CancellationToken::new();
    let (mut client, mut instance, _ended, _fixture) = relay(&stop).await;
    client.feed(history(1)).await.unwrap();
    client.feed(history(1)).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(next(&mut client).await["error"]["code"], "INVALID_REQUEST");
    assert_eq!(next(&mut instance).await["id"], "1");
    let answer = json!({"type": "res", "id": "1", "ok": true, "payload": {}});
    instance
        .send(Message::text(answer.to_string()))
        .await
        .unwrap();
    assert_eq!(next(&mut client).await["ok"], true);
}

#[tokio::test]
async fn a_gateway_that_stops_ends_its_sockets() {
    let stop = CancellationToken::new();
    let (_client, _instance, ended, _fixture) = relay(&stop).await;
    stop.cancel();
    assert_eq!(ended.await.unwrap(), End::Shutdown);
}

#[tokio::test]
async fn who_is_told_to_go_has_the_answer_to_what_starts_a_run_and_nothing_more_is_begun() {
    let (stop, leave) = (CancellationToken::new(), CancellationToken::new());
    let (mut client, mut instance, ended, fixture) = relay_until(Policy::Pool, &stop, &leave).await;
    client.send(send("run-1")).await.unwrap();
    client.send(history(2)).await.unwrap();
    assert_eq!(next(&mut instance).await["id"], "run-1");
    assert_eq!(next(&mut instance).await["id"], "2");
    leave.cancel();
    // Comes to an instance that has not answered what was asked before: nobody reads it.
    client.send(history(3)).await.unwrap();
    let started = json!({"type": "res", "id": "run-1", "ok": true, "payload": {"runId": "run-1", "status": "started"}});
    instance.send(event("user-alice", 1)).await.unwrap();
    assert_eq!(next(&mut client).await["seq"], 1, "it is still there");
    assert!(!ended.is_finished(), "a run is being started");
    let answer = Message::text(started.to_string());
    instance.send(answer).await.unwrap();
    assert_eq!(next(&mut client).await["id"], "run-1");
    let close = client.next().await.unwrap().unwrap();
    let (code, _) = close.as_close().unwrap();
    assert_eq!(code, CloseCode::SERVICE_RESTART);
    drop(client);
    assert_eq!(ended.await.unwrap(), End::Shutdown);
    while let Some(Ok(message)) = instance.next().await {
        assert!(message.is_close(), "nothing came after it: {message:?}");
    }
    let records = fixture.records.take();
    let run = records.iter().map(|record| record.run_id.as_deref());
    assert_eq!(run.collect::<Vec<_>>(), [Some("run-1")], "once");
}

#[tokio::test]
async fn who_waits_for_another_answer_is_not_waited_for() {
    let (stop, leave) = (CancellationToken::new(), CancellationToken::new());
    let (mut client, mut instance, ended, _fixture) =
        relay_until(Policy::Pool, &stop, &leave).await;
    client.send(history(1)).await.unwrap();
    assert_eq!(next(&mut instance).await["id"], "1");
    leave.cancel();
    assert_eq!(ended.await.unwrap(), End::Shutdown);
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_left_at_the_end() {
    let (stop, leave) = (CancellationToken::new(), CancellationToken::new());
    let (mut client, mut instance, ended, fixture) = relay_until(Policy::Pool, &stop, &leave).await;
    client.send(send("run-1")).await.unwrap();
    assert_eq!(next(&mut instance).await["id"], "run-1");
    leave.cancel();
    instance.send(event("user-alice", 1)).await.unwrap();
    assert_eq!(next(&mut client).await["seq"], 1, "it waits");
    stop.cancel();
    assert_eq!(ended.await.unwrap(), End::Shutdown);
    assert_eq!(fixture.records.take().len(), 1, "it may have begun");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_pinged_and_one_that_does_not_answer_is_gone() {
    let stop = CancellationToken::new();
    let (mut client, _instance, ended, _fixture) = relay(&stop).await;
    // Reading answers the ping.
    let ping = client.next().await.unwrap().unwrap();
    assert!(ping.is_ping());
    client.flush().await.unwrap();
    let ping = client.next().await.unwrap().unwrap();
    assert!(ping.is_ping(), "who has answered stays");
    client.flush().await.unwrap();
    // From here on nobody reads.
    let end = tokio::time::timeout(std::time::Duration::from_secs(600), ended).await;
    assert_eq!(end.unwrap().unwrap(), End::Client);
}
