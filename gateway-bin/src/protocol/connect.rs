//! The first frame of a client.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::ErrorShape;
use super::object::Object;
use crate::config::Secret;

/// The protocol version spoken on both sides.
pub const PROTOCOL_VERSION: u32 = 4;

/// What a client's `connect` says that matters here. Its device, scopes and secrets end here: towards the instance
/// the gateway signs in itself.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connect {
    /// `id` of the frame.
    pub id: Box<str>,
    /// The credential in `auth`, if any.
    pub auth: Option<ConnectAuth>,
    /// Capabilities that the instance knows and that concern only this connection.
    pub caps: Vec<&'static str>,
    /// The client's own name for this connection; the shipped page finds itself in `presence` by it.
    pub instance_id: Option<Box<str>>,
    /// Whether it says that it is OpenClaw's shipped page.
    pub is_page: bool,
}

/// A credential of `connect.params.auth`: a token of the issuer or a gateway password; `token` and `password` are
/// interchangeable as its carrier.
#[derive(Debug)]
pub struct ConnectAuth(pub Secret);

/// The event that opens the handshake.
#[derive(Clone, Copy, Debug)]
pub struct Challenge;

/// What OpenClaw's shipped page calls itself.
const PAGE: &str = "openclaw-control-ui";

/// Capabilities that are passed on.
const CAPS: [&str; 3] = ["inline-widgets", "session-scoped-events", "tool-events"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    method: String,
    params: Object<Params>,
    #[serde(default, rename = "traceparent")]
    _traceparent: Option<IgnoredAny>,
    #[serde(default, rename = "expectedProfileId")]
    _expected_profile_id: Option<IgnoredAny>,
}

/// `ConnectParams` of the protocol's schema; what is only told about the client's machine is not looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Params {
    min_protocol: u32,
    max_protocol: u32,
    client: Object<Client>,
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    auth: Option<Object<Auth>>,
    #[serde(default, rename = "scopes")]
    _scopes: Option<Vec<String>>,
    #[serde(default, rename = "device")]
    _device: Option<IgnoredAny>,
    #[serde(default, rename = "locale")]
    _locale: Option<IgnoredAny>,
    #[serde(default, rename = "userAgent")]
    _user_agent: Option<IgnoredAny>,
    #[serde(default, rename = "modelCatalog")]
    _model_catalog: Option<IgnoredAny>,
    #[serde(default, rename = "permissions")]
    _permissions: Option<IgnoredAny>,
    #[serde(default, rename = "pathEnv")]
    _path_env: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Client {
    id: String,
    mode: String,
    #[serde(rename = "version")]
    _version: String,
    #[serde(rename = "platform")]
    _platform: String,
    #[serde(default)]
    instance_id: Option<String>,
    #[serde(default, rename = "displayName")]
    _display_name: Option<IgnoredAny>,
    #[serde(default, rename = "buildId")]
    _build_id: Option<IgnoredAny>,
    #[serde(default, rename = "deviceFamily")]
    _device_family: Option<IgnoredAny>,
    #[serde(default, rename = "modelIdentifier")]
    _model_identifier: Option<IgnoredAny>,
    #[serde(default, rename = "timeZone")]
    _time_zone: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    #[serde(default)]
    token: Option<Secret>,
    #[serde(default)]
    password: Option<Secret>,
}

// === impl Connect ===

impl Connect {
    /// Parses the first frame.
    ///
    /// # Errors
    ///
    /// The `id` to answer, where there is one, and what to answer.
    pub fn parse(text: &str) -> Result<Self, (Option<Box<str>>, ErrorShape)> {
        let Object(frame): Object<Frame> = serde_json::from_str(text)
            .map_err(|_| (find_id(text), invalid("invalid connect frame")))?;
        let id: Box<str> = frame.id.into();
        let Object(params) = frame.params;
        if frame.kind != "req" || frame.method != "connect" {
            return Err((
                Some(id),
                invalid("the first frame must be a connect request"),
            ));
        }
        if params.min_protocol > PROTOCOL_VERSION || params.max_protocol < PROTOCOL_VERSION {
            return Err((
                Some(id),
                invalid("protocol version 4 is needed").detail("PROTOCOL_MISMATCH"),
            ));
        }
        if params.role.is_some_and(|role| role != "operator")
            || matches!(&*params.client.0.mode, "node" | "worker")
        {
            return Err((
                Some(id),
                ErrorShape::new("FORBIDDEN", "only the role operator may connect here"),
            ));
        }
        let auth = params
            .auth
            .and_then(|Object(auth)| auth.token.or(auth.password))
            .map(ConnectAuth);
        let caps = CAPS
            .into_iter()
            .filter(|cap| params.caps.iter().any(|asked| asked == cap))
            .collect();
        let is_page = params.client.0.id == PAGE;
        let instance_id = params
            .client
            .0
            .instance_id
            .filter(|id| id.len() <= 128)
            .map(Into::into);
        Ok(Self {
            id,
            auth,
            caps,
            instance_id,
            is_page,
        })
    }
}

fn invalid(message: &'static str) -> ErrorShape {
    ErrorShape::new("INVALID_REQUEST", message)
}

fn find_id(text: &str) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Named {
        id: Box<str>,
    }
    serde_json::from_str::<Named>(text)
        .ok()
        .map(|named| named.id)
        .filter(|id| !id.is_empty() && id.len() <= 256)
}

// === impl Challenge ===

impl Challenge {
    /// The event with a nonce. The gateway does not check a client's device, so the nonce decides nothing.
    #[must_use]
    pub fn frame(self, nonce: &str, unix_ms: u128) -> String {
        format!(
            r#"{{"type":"event","event":"connect.challenge","payload":{{"nonce":"{nonce}","ts":{unix_ms}}}}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(params: &str) -> String {
        format!(
            r#"{{"type":"req","id":"1","method":"connect","params":{{"minProtocol":4,"maxProtocol":4,
            "client":{{"id":"cli","version":"1","platform":"linux","mode":"cli"}}{params}}}}}"#
        )
    }

    #[test]
    fn a_credential_may_stand_in_token_or_password() {
        for auth in [
            r#","auth":{"token":"secret"}"#,
            r#","auth":{"password":"secret"}"#,
        ] {
            let connect = Connect::parse(&frame(auth)).unwrap();
            assert_eq!(connect.auth.unwrap().0.expose(), "secret");
        }
        assert!(Connect::parse(&frame("")).unwrap().auth.is_none());
    }

    #[test]
    fn d3_38_other_roles_and_the_instances_own_secrets_are_refused() {
        for params in [
            r#","role":"node""#,
            r#","role":"admin""#,
            r#","auth":{"deviceToken":"x"}"#,
            r#","auth":{"bootstrapToken":"x"}"#,
            r#","auth":{"token":"a","token":"b"}"#,
            r#","sessionKey":"agent:user-bob:main""#,
            r#","commands":["x"]"#,
        ] {
            let (id, _) = Connect::parse(&frame(params)).unwrap_err();
            assert_eq!(id.as_deref(), Some("1"), "{params}");
        }
    }

    #[test]
    fn only_known_capabilities_are_passed_on() {
        let connect = Connect::parse(&frame(
            r#","caps":["tool-events","model-catalog-snapshot","x"]"#,
        ))
        .unwrap();
        assert_eq!(connect.caps, ["tool-events"]);
    }

    #[test]
    fn another_first_frame_is_refused() {
        for text in [
            r#"{"type":"req","id":"1","method":"chat.send","params":{}}"#,
            "{",
            "[]",
            r#"{"id":"1"}"#,
        ] {
            assert!(Connect::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let connect = Connect::parse(&frame(r#","auth":{"token":"canary"}"#)).unwrap();
        assert!(!format!("{connect:?}").contains("canary"));
    }
}
