//! A relay between a client and their own cell.

use futures_util::{SinkExt, StreamExt};
use gateway::protocol::Policy;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_websockets::Message;

use crate::relay::{next, relay_under};

fn call(id: &str, method: &str, params: &Value) -> Message {
    Message::text(json!({"type": "req", "id": id, "method": method, "params": params}).to_string())
}

#[tokio::test]
async fn what_a_cell_sends_passes_unread() {
    let stop = CancellationToken::new();
    let (mut client, mut instance, _ended, _fixture) = relay_under(Policy::Cell, &stop).await;
    let sent = [
        r#"{"type":"event","event":"future","payload":{"agentId":"work"},"seq":9}"#,
        r#"{"type":"event","event":"presence","payload":{},"seq":4}"#,
        r#"{"type":"res","id":"never-asked","ok":true}"#,
        "no JSON at all",
        "{ \"seq\" : 1 , \"seq\" : 2 }",
    ];
    for text in sent {
        instance.feed(Message::text(text)).await.unwrap();
    }
    instance.flush().await.unwrap();
    for text in sent {
        let message = client.next().await.unwrap().unwrap();
        assert_eq!(message.as_text(), Some(text));
    }
}

#[tokio::test]
async fn a_run_in_a_cell_takes_its_call_when_it_is_sent_whatever_becomes_of_it() {
    let stop = CancellationToken::new();
    let (mut client, mut instance, _ended, fixture) = relay_under(Policy::Cell, &stop).await;
    let said =
        json!({"message": "hi", "sessionKey": "main", "idempotencyKey": "run-1", "future": [1]});
    for (id, method, params) in [
        (
            "1",
            "agents.files.get",
            &json!({"agentId": "x", "name": "SOUL.md"}),
        ),
        ("2", "agent", &said),
        ("3", "tools.invoke", &json!({"tool": "ls"})),
        ("4", "config.patch", &json!({"raw": "{}"})),
        ("5", "chat.send", &json!({"message": "/restart"})),
        ("6", "status", &json!({})),
    ] {
        client.feed(call(id, method, params)).await.unwrap();
    }
    client.flush().await.unwrap();
    for (id, method) in [("1", "agents.files.get"), ("2", "agent"), ("6", "status")] {
        let frame = next(&mut instance).await;
        assert_eq!(
            (&frame["id"], &frame["method"]),
            (&json!(id), &json!(method))
        );
        if id == "2" {
            assert_eq!(frame["params"], said, "as it was written");
        }
    }
    for (id, code) in [
        ("3", "API_CALLS_EXCEEDED"),
        ("4", "INVALID_REQUEST"),
        ("5", "INVALID_REQUEST"),
    ] {
        let refused = next(&mut client).await;
        let error = &refused["error"];
        assert_eq!(
            (&refused["id"], refused["ok"].as_bool()),
            (&json!(id), Some(false))
        );
        assert_eq!(
            error["code"] == "API_CALLS_EXCEEDED",
            code == "API_CALLS_EXCEEDED",
            "{error}"
        );
    }
    // The cell does not take it: nobody reads that, and the client is told by the cell itself.
    let refusal = r#"{"type":"res","id":"2","ok":false,"error":{"code":"FORBIDDEN"}}"#;
    instance.send(Message::text(refusal)).await.unwrap();
    assert_eq!(next(&mut client).await["error"]["code"], "FORBIDDEN");
    let records = fixture.records.take();
    let [record] = records.as_slice() else {
        panic!("one run: {records:?}")
    };
    assert_eq!(record.run_id.as_deref(), Some("run-1"));
    assert_eq!(record.session_key.as_deref(), Some("agent:user-alice:main"));
    client.send(call("7", "wake", &json!({}))).await.unwrap();
    assert_eq!(
        next(&mut client).await["error"]["code"],
        "API_CALLS_EXCEEDED",
        "it stays taken"
    );
}
