//! How a trusted proxy connects for a person, past the gateway.

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{PROXY_ORIGIN, USER_HEADER};
use crate::{
    clock::unix_millis,
    error::{Error, Result},
    ws::Ws,
};

/// Connects to the instance at a base URL as `user`, in a browser's way, with a device of its own. Answers the
/// connection after `hello-ok`, and that.
///
/// # Errors
///
/// [`Error::Unexpected`] with a refusal, and what [`Ws`] says.
pub async fn dial_as(url: &str, user: &str) -> Result<(Ws, Value)> {
    let scopes = "operator.read,operator.write";
    let headers = [
        (USER_HEADER, user),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-openclaw-scopes", scopes),
        ("origin", PROXY_ORIGIN),
    ];
    let mut ws = Ws::connect(&url.replacen("http", "ws", 1), &headers).await?;
    let challenge = ws.event("connect.challenge").await?;
    let nonce = challenge["payload"]["nonce"].as_str().unwrap_or_default();
    let key =
        Ed25519KeyPair::generate().map_err(|_| Error::unexpected("key", "none can be made"))?;
    let public = key.public_key().as_ref();
    let id: String = digest(&SHA256, public)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let now = unix_millis();
    let signed = format!("v3|{id}|webchat-ui|webchat|operator|{scopes}|{now}||{nonce}|web|");
    let hello = ws
        .call("connect", json!({
            "minProtocol": 4, "maxProtocol": 4,
            "client": {"id": "webchat-ui", "version": "0.0.0", "platform": "web", "mode": "webchat"},
            "role": "operator", "scopes": ["operator.read", "operator.write"], "caps": [],
            "device": {
                "id": id, "publicKey": URL_SAFE_NO_PAD.encode(public), "signedAt": now, "nonce": nonce,
                "signature": URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())),
            },
        }))
        .await?;
    Ok((ws, hello))
}
