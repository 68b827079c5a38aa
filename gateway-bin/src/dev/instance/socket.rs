use futures_util::{SinkExt, StreamExt};
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_websockets::{CloseCode, Limits, Message, ServerBuilder, WebSocketStream};

use super::state::{Caller, now};
use super::{DemoInstance, TICK, USER_HEADER, method};
use crate::protocol::{Challenge, ErrorShape, PROTOCOL_VERSION, error_response};

/// Largest message (`policy.maxPayload` of the real one).
const MAX_PAYLOAD: usize = 25 << 20;

/// How long a client may take to connect.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(15);

const EVENTS: [&str; 9] = [
    "agent",
    "chat",
    "health",
    "presence",
    "session.message",
    "sessions.changed",
    "shutdown",
    "tick",
    "config.changed",
];

/// A connection after its handshake.
struct Connected {
    id: u64,
    caller: Caller,
    scopes: Vec<String>,
}

/// Serves one connection to its end.
pub(super) async fn serve<C>(demo: DemoInstance, io: C, headers: HeaderMap)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let limits = Limits::default().max_payload_len(Some(MAX_PAYLOAD));
    let mut socket = ServerBuilder::new().limits(limits).serve(io);
    let opened = timeout(HANDSHAKE, handshake(&demo, &mut socket, &headers)).await;
    let Ok(Some((connected, mut outbox))) = opened else {
        let _ = socket.close().await;
        return;
    };
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(Ok(message)) = message else { break };
                let Some(text) = message.as_text() else {
                    if message.is_close() { break }
                    continue;
                };
                let Some(answer) = answer(&demo, &connected, text) else { continue };
                if socket.send(Message::text(answer)).await.is_err() {
                    break;
                }
            }
            message = outbox.recv() => {
                let Some(message) = message else { break };
                let ends = message.is_close();
                if socket.send(message).await.is_err() || ends {
                    break;
                }
            }
        }
    }
    demo.lock().disconnect(connected.id);
    let _ = timeout(std::time::Duration::from_secs(1), socket.close()).await;
}

/// The answer to a request frame; `None`: it is none.
fn answer(demo: &DemoInstance, connected: &Connected, text: &str) -> Option<String> {
    let frame: Value = serde_json::from_str(text).ok()?;
    let id = frame.get("id")?.as_str()?;
    let name = frame
        .get("method")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let params = frame.get("params").cloned().unwrap_or_else(|| json!({}));
    let call = method::Call {
        demo,
        connection: connected.id,
        caller: &connected.caller,
        scopes: &connected.scopes,
        params,
    };
    Some(match call.answer(name) {
        Ok(payload) => json!({"type": "res", "id": id, "ok": true, "payload": payload}).to_string(),
        Err(error) => error_response(id, &error),
    })
}

async fn handshake<C>(
    demo: &DemoInstance,
    socket: &mut WebSocketStream<C>,
    headers: &HeaderMap,
) -> Option<(Connected, tokio::sync::mpsc::Receiver<Message>)>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let nonce = uuid::Uuid::new_v4().to_string();
    let challenge = Challenge.frame(&nonce, u128::from(now()));
    socket.send(Message::text(challenge)).await.ok()?;
    let frame: Value = loop {
        let message = socket.next().await?.ok()?;
        if let Some(text) = message.as_text() {
            break serde_json::from_str(text).ok()?;
        }
    };
    let id = frame.get("id").and_then(Value::as_str).unwrap_or_default();
    let text = |pointer: &str| frame.pointer(pointer).and_then(Value::as_str);
    let scopes: Vec<&str> = frame
        .pointer("/params/scopes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let user = headers.get(USER_HEADER).and_then(|user| user.to_str().ok());
    let password = text("/params/auth/password");
    let caller = match (user, password) {
        // As the real one: the identity header wins, and a browser's device must have signed our challenge.
        (Some(user), _) if text("/params/device/nonce") == Some(&*nonce) => {
            Some(Caller::Person(demo.lock().profile_of(user)))
        }
        (None, Some(password)) if password == demo.0.password.expose() => {
            Some(Caller::Administrator)
        }
        _ => None,
    };
    let Some(caller) = caller.filter(|_| text("/method") == Some("connect")) else {
        let error = ErrorShape::new("INVALID_REQUEST", "unauthorized").detail("AUTH_UNAUTHORIZED");
        let _ = socket.send(Message::text(error_response(id, &error))).await;
        let close = Message::close(Some(CloseCode::POLICY_VIOLATION), "unauthorized");
        let _ = socket.send(close).await;
        return None;
    };
    let (hello, connected, outbox) = {
        let mut instance = demo.lock();
        let scopes = match &caller {
            Caller::Administrator => scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            person => instance.scopes(person, &["operator.read", "operator.write"]),
        };
        let instance_id = text("/params/client/instanceId").map(str::to_owned);
        let (connection, outbox) = instance.connect(caller.clone(), instance_id);
        let hello = json!({
            "type": "hello-ok", "protocol": PROTOCOL_VERSION,
            "server": {"version": "demo", "connId": connection.to_string()},
            "features": {"methods": method::METHODS, "events": EVENTS, "capabilities": []},
            "snapshot": {
                "presence": instance.presence(), "health": instance.health(),
                "stateVersion": {"presence": 0, "health": 0}, "uptimeMs": 0, "authMode": "trusted-proxy",
                "sessionDefaults": {"defaultAgentId": "main", "mainKey": "main", "mainSessionKey": "agent:main:main"},
            },
            "auth": {"method": "trusted-proxy", "role": "operator", "scopes": scopes},
            "policy": {"maxPayload": MAX_PAYLOAD, "tickIntervalMs": u64::try_from(TICK.as_millis()).unwrap_or(0)},
        });
        let connected = Connected {
            id: connection,
            caller,
            scopes,
        };
        (hello, connected, outbox)
    };
    let hello = json!({"type": "res", "id": id, "ok": true, "payload": hello});
    if socket.send(Message::text(hello.to_string())).await.is_err() {
        demo.lock().disconnect(connected.id);
        return None;
    }
    Some((connected, outbox))
}
