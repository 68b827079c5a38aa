//! A client's request frame.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

use super::extended::ExtendedChat;
use super::method::{Answer, Method, SessionField, StartsRun, find_method};
use super::object::Object;
use super::params::{Field, Params, Text};
use super::policy::{Policy, Reason, Verdict, judge};
use super::slash;
use crate::config::Secret;

/// Longest `id` of a frame, in bytes; our own limit, the instance has none.
pub(super) const MAX_ID_LEN: usize = 256;

/// Longest session key, in bytes (`ChatSendParams.sessionKey` of the protocol's schema).
pub(super) const MAX_SESSION_KEY_LEN: usize = 512;

/// A request frame that was understood, without what decides about foreign things: the session it names is kept apart
/// and the agent is left out, both are put in again from the user's workspace.
#[derive(Debug)]
pub struct Request {
    /// Names the request in its response.
    pub id: Box<str>,
    /// What is called.
    pub method: &'static Method,
    /// The session that the client named.
    pub session: Option<Box<str>>,
    /// Whether it starts a run.
    pub starts_run: bool,
    /// The run that a run starter names: its idempotency key (OpenClaw makes it the run's id).
    pub run_id: Option<Arc<str>>,
    /// The run that it is about, which must be the user's own.
    pub of_run: Option<Box<str>>,
    /// The session that it names by an id of the instance's, which must be the user's own.
    pub of_session: Option<Box<str>>,
    /// The session that those it asks for were spawned by, which must be the user's own.
    pub spawned_by: Option<Box<str>>,
    /// Whether the instance is told no key of a session: it is to choose one, or is told a short id.
    omits_session: bool,
    /// The credential of a renewal.
    pub renewal: Option<Secret>,
    /// What the instance is told beside a message.
    pub(super) extended: Option<Arc<ExtendedChat>>,
    /// W3C trace context of the frame.
    pub traceparent: Option<Box<str>>,
    /// All other parameters, as the members of a JSON object without its braces.
    members: String,
}

/// Parses a text frame: once, strictly. Members that stand twice, in whatever spelling, trailing bytes, unknown
/// members and members that the method does not have are refused.
///
/// # Errors
///
/// [`FrameError::Malformed`] where not even the `id` could be read; else the `id` travels with the refusal.
pub fn parse_request(text: &str) -> Result<Request, FrameError> {
    let Object(frame): Object<Frame<'_>> = match serde_json::from_str(text) {
        Ok(frame) => frame,
        Err(_) => return unparsed(text),
    };
    let refuse = |refusal: Refusal| FrameError::Refused {
        id: frame.id.as_ref().into(),
        refusal,
    };
    if frame.kind != "req" || frame.id.is_empty() || frame.id.len() > MAX_ID_LEN {
        return Err(FrameError::Malformed);
    }
    if frame.method == "connect" {
        return Err(refuse(Refusal::SecondConnect));
    }
    let method =
        find_method(&frame.method).ok_or_else(|| refuse(Refusal::of_method(&frame.method)))?;
    if let Answer::Fixed(_) = method.answer {
        return Ok(Request::answered(frame.id.into(), method));
    }
    let Object(mut params) = frame.params;

    let session = match method.session {
        SessionField::None => None,
        SessionField::SessionKey => params.session_key.take(),
        SessionField::Key | SessionField::NewKey => params.key.take(),
    };
    if session
        .as_ref()
        .is_some_and(|key| key.len() > MAX_SESSION_KEY_LEN)
    {
        return Err(FrameError::Refused {
            id: frame.id.into(),
            refusal: Refusal::InvalidParams,
        });
    }
    let names_session = session.is_some();
    let session_is_chosen = method.session == SessionField::NewKey && !names_session;
    let agent = params.agent_id.take();
    // An agent that a client names is checked against the session rule by being written as one.
    let session = match (session, agent) {
        (session, None) => session.map(|key| key.into_owned().into_boxed_str()),
        (None, Some(agent)) => Some(format!("agent:{agent}:main").into_boxed_str()),
        (Some(key), Some(agent)) => {
            let named = key
                .strip_prefix("agent:")
                .and_then(|rest| rest.split_once(':'));
            match named {
                Some((of_key, _)) if of_key != agent => {
                    return Err(FrameError::Refused {
                        id: frame.id.into(),
                        refusal: Refusal::InvalidParams,
                    });
                }
                Some(_) => Some(key.into_owned().into_boxed_str()),
                None => Some(format!("agent:{agent}:{key}").into_boxed_str()),
            }
        }
    };
    // `archived` may be a flag wherever it may be more.
    let takes = |field: Field| {
        method.fields.contains(&field)
            || (field == Field::Archived && method.fields.contains(&Field::ArchivedToo))
    };
    let by_short_id = params.short_id.is_some();
    if params.fields().any(|field| !takes(field)) || (by_short_id && names_session) {
        return Err(FrameError::Refused {
            id: frame.id.into(),
            refusal: Refusal::InvalidParams,
        });
    }

    if let Some(Text(message)) = &params.message {
        slash::check(message).map_err(|refused| refuse(Refusal::Command(refused)))?;
    }

    let starts_run = match method.starts_run {
        StartsRun::No => false,
        StartsRun::WithMessage => params.message.is_some(),
        StartsRun::Yes => true,
    };
    let run_id = match (starts_run, &params.idempotency_key) {
        (true, Some(Text(key))) => Some(key.as_ref().into()),
        _ => None,
    };
    let named = |text: &Option<Text<'_>>| text.as_ref().map(|Text(id)| id.as_ref().into());
    let (of_run, of_session) = (named(&params.run_id), named(&params.session_id));
    let spawned_by = named(&params.spawned_by);
    let renewal = match method.answer {
        Answer::Renewal => match params.token.take() {
            Some(Text(token)) => Some(Secret::new(token)),
            None => return Err(refuse_params(frame.id)),
        },
        _ => None,
    };
    let mut members = serde_json::to_string(&params).map_err(|_| FrameError::Malformed)?;
    members.pop();
    members.remove(0);
    Ok(Request {
        id: frame.id.into(),
        method,
        session,
        starts_run,
        run_id,
        of_run,
        of_session,
        spawned_by,
        omits_session: by_short_id || session_is_chosen,
        renewal,
        extended: None,
        traceparent: frame.traceparent.map(Into::into),
        members,
    })
}

fn refuse_params(id: Cow<'_, str>) -> FrameError {
    FrameError::Refused {
        id: id.into(),
        refusal: Refusal::InvalidParams,
    }
}

/// A frame that is not forwarded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// It has no `id` that could be answered: the socket is closed.
    #[error("frame could not be read")]
    Malformed,
    /// It is answered with an error.
    #[error("{refusal}")]
    Refused {
        /// `id` of the frame.
        id: Box<str>,
        /// Why.
        refusal: Refusal,
    },
}

/// Why a frame that has an `id` is refused.
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not a request frame of the protocol.
    #[error("invalid request frame")]
    InvalidFrame,
    /// Its parameters are not those of the method.
    #[error("invalid parameters")]
    InvalidParams,
    /// The method is in no row of the table.
    #[error("this method is not available here")]
    UnknownMethod,
    /// The table refuses the method.
    #[error("this is not available here: {0}")]
    Method(Reason),
    /// The message has a slash command in it that is refused.
    #[error("{0}")]
    Command(slash::Refused),
    /// `connect` is for the first frame.
    #[error("connect is only valid as the first request")]
    SecondConnect,
    /// The instance keeps one conversation of each person, and it is about another.
    #[error("on this instance you have one conversation, user:<you>; leave the session out")]
    OtherConversation,
    /// It names a run or a session by an id that is not known to be one of the user's own.
    #[error("this {0} was not found")]
    NotOwn(&'static str),
}

// === impl Refusal ===

impl Refusal {
    /// Why a method that does not pass is refused.
    #[cold]
    fn of_method(name: &str) -> Self {
        match judge(Policy::Pool, name) {
            Verdict::Refuse(reason) => Self::Method(reason),
            Verdict::Unknown | Verdict::Pass => Self::UnknownMethod,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(default, borrow)]
    params: Object<Params<'a>>,
    #[serde(default, borrow)]
    traceparent: Option<Cow<'a, str>>,
    // Known to the protocol; the profile is the instance's own name for the user, whom we have verified ourselves.
    #[serde(default, borrow, rename = "expectedProfileId")]
    _expected_profile_id: Option<Cow<'a, str>>,
}

/// A frame that the strict parser did not take: told apart only here, off the path of good frames. What is always answered the
/// same is answered whatever its parameters are.
#[cold]
fn unparsed(text: &str) -> Result<Request, FrameError> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
        #[serde(borrow)]
        method: Option<Cow<'a, str>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Loose<'a> {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(rename = "id")]
        _id: IgnoredAny,
        #[serde(rename = "method")]
        _method: IgnoredAny,
        #[serde(default, rename = "params")]
        _params: Object<HashMap<Box<str>, IgnoredAny>>,
        #[serde(default, rename = "traceparent")]
        _traceparent: IgnoredAny,
        #[serde(default, rename = "expectedProfileId")]
        _expected_profile_id: IgnoredAny,
    }

    match serde_json::from_str::<Object<Named<'_>>>(text) {
        Ok(Object(Named { id, method })) if !id.is_empty() && id.len() <= MAX_ID_LEN => {
            let found = method.as_deref().and_then(find_method);
            if let Some(method) = found
                && let Answer::Fixed(_) = method.answer
                && let Ok(Object(frame)) = serde_json::from_str::<Object<Loose<'_>>>(text)
                && frame.kind == "req"
            {
                return Ok(Request::answered(id.into(), method));
            }
            let refusal = match method.as_deref() {
                Some("connect") => Refusal::SecondConnect,
                Some(_) if found.is_some() => Refusal::InvalidParams,
                Some(name) => Refusal::of_method(name),
                None => Refusal::InvalidFrame,
            };
            Err(FrameError::Refused {
                id: id.into(),
                refusal,
            })
        }
        _ => Err(FrameError::Malformed),
    }
}

// === impl Request ===

impl Request {
    /// A request whose parameters decide nothing.
    fn answered(id: Box<str>, method: &'static Method) -> Self {
        Self {
            id,
            method,
            session: None,
            starts_run: false,
            run_id: None,
            of_run: None,
            of_session: None,
            spawned_by: None,
            omits_session: false,
            renewal: None,
            extended: None,
            traceparent: None,
            members: String::new(),
        }
    }

    /// The session that the client named, as a session of `agent`; `None` when it is not one.
    ///
    /// A key is never read to learn whose it is: it is either a session of the agent that the verified user has, or
    /// nothing.
    #[must_use]
    pub fn session_of(&self, agent: &str) -> Option<Cow<'_, str>> {
        if let Some(key) = &self.spawned_by
            && !is_session_of(key, agent)
        {
            return None;
        }
        match self.session.as_deref() {
            None | Some("main") => Some(Cow::Owned(format!("agent:{agent}:main"))),
            Some(key) => is_session_of(key, agent).then_some(Cow::Borrowed(key)),
        }
    }

    /// The frame as the instance gets it: written from what was understood, with the user's own session and agent.
    #[must_use]
    pub fn to_frame(&self, session_key: &str, agent: &str) -> String {
        let told = self
            .extended
            .as_ref()
            .map_or(0, |told| told.members().len());
        let mut frame = String::with_capacity(
            128 + self.id.len() + session_key.len() + agent.len() + self.members.len() + told,
        );
        frame.push_str(r#"{"type":"req","id":"#);
        push_json(&mut frame, &self.id);
        frame.push_str(r#","method":""#);
        frame.push_str(self.method.name);
        frame.push_str(r#"","params":{"#);
        frame.push_str(&self.members);
        let mut session_key = session_key;
        if let Some(extended) = &self.extended {
            if !self.members.is_empty() {
                frame.push(',');
            }
            frame.push_str(extended.members());
            session_key = extended.session();
        }
        let mut empty = self.members.is_empty() && self.extended.is_none();
        let mut member = |frame: &mut String, name: &str, value: &str| {
            if !std::mem::take(&mut empty) {
                frame.push(',');
            }
            frame.push('"');
            frame.push_str(name);
            frame.push_str("\":");
            push_json(frame, value);
        };
        match self.method.session {
            _ if self.omits_session => {}
            SessionField::None => {}
            SessionField::SessionKey => member(&mut frame, "sessionKey", session_key),
            SessionField::Key | SessionField::NewKey => member(&mut frame, "key", session_key),
        }
        if self.method.takes_agent {
            member(&mut frame, "agentId", agent);
        }
        frame.push('}');
        if let Some(traceparent) = &self.traceparent {
            frame.push_str(r#","traceparent":"#);
            push_json(&mut frame, traceparent);
        }
        frame.push('}');
        frame
    }
}

fn is_session_of(key: &str, agent: &str) -> bool {
    let name = key
        .strip_prefix("agent:")
        .and_then(|rest| rest.strip_prefix(agent))
        .and_then(|rest| rest.strip_prefix(':'));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.');
    name.is_some_and(|name| !name.is_empty() && name.chars().all(plain))
}

/// Appends a JSON string.
pub(super) fn push_json(text: &mut String, value: &str) {
    if value.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        text.push('"');
        text.push_str(value);
        text.push('"');
    } else if let Ok(quoted) = serde_json::to_string(value) {
        text.push_str(&quoted);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AGENT: &str = "user-alice";

    fn forward(text: &str) -> Result<String, String> {
        let request = parse_request(text).map_err(|error| format!("{error:?}"))?;
        let session = request.session_of(AGENT).ok_or("foreign session")?;
        Ok(request.to_frame(&session, AGENT))
    }

    #[test]
    fn a_request_is_written_anew_with_the_users_session_and_agent() {
        let frame = forward(
            r#"{"type":"req","id":"1","method":"chat.send","params":{"sessionKey":"main","message":"a \"b\" \u00e4","idempotencyKey":"k"}}"#,
        )
        .unwrap();
        let value: serde_json::Value = serde_json::from_str(&frame).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"type":"req","id":"1","method":"chat.send","params":{"sessionKey":"agent:user-alice:main",
                "agentId":"user-alice","message":"a \"b\" ä","idempotencyKey":"k"}})
        );
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let frame = forward(
            r#"{"params":{"key":"agent:user-alice:x"},"method":"sessions.messages.subscribe","id":"9","type":"req"}"#,
        )
        .unwrap();
        assert!(frame.contains(r#""key":"agent:user-alice:x""#));
    }

    #[test]
    fn d3_38_foreign_sessions_in_every_spelling_are_refused() {
        let send = |params: &str| {
            format!(r#"{{"type":"req","id":"1","method":"chat.send","params":{params}}}"#)
        };
        for params in [
            r#"{"sessionKey":"agent:user-bob:main","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"agent:x:user:bob","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"agent:user-alice","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"agent:user-alice:","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"agent:user-alice2:main","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"agent:User-Alice:main","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"agent:user-alice:main\u0000","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"agent:user-alice:a/../b","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"user:bob","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"global","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":" main","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"","message":"x","idempotencyKey":"k"}"#,
            r#"{"\u0073essionKey":"agent:user-bob:main","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"main","\u0073essionKey":"agent:user-bob:main","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":"main","sessionKey":"agent:user-bob:main","message":"x","idempotencyKey":"k"}"#,
            r#"{"SessionKey":"agent:user-bob:main","message":"x","idempotencyKey":"k"}"#,
            r#"{"session_key":"agent:user-bob:main","message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":["agent:user-bob:main"],"message":"x","idempotencyKey":"k"}"#,
            r#"{"sessionKey":{"key":"agent:user-bob:main"},"message":"x","idempotencyKey":"k"}"#,
            r#"{"key":"agent:user-bob:main","message":"x","idempotencyKey":"k"}"#,
            r#"{"agentId":"user-bob","message":"x","idempotencyKey":"k"}"#,
            r#"{"agentId":"user-bob","sessionKey":"agent:user-alice:main","message":"x","idempotencyKey":"k"}"#,
            r#"{"agentId":"user-bob","sessionKey":"main","message":"x","idempotencyKey":"k"}"#,
            r#"{"workspaceDir":"/","message":"x","idempotencyKey":"k"}"#,
            r#"{"message":"x","idempotencyKey":"k","attachments":[{"sessionKey":"agent:user-bob:main"}]}"#,
            r#"{"message":"x","idempotencyKey":"k","workContext":{"sessionKey":"agent:user-bob:main"}}"#,
            r#"{"message":"x","idempotencyKey":"k","runId":"r"}"#,
            r#"{"message":{"text":"x"},"idempotencyKey":"k"}"#,
        ] {
            assert!(forward(&send(params)).is_err(), "{params}");
        }
    }

    #[test]
    fn d3_38_frames_of_another_form_are_refused() {
        for (text, answered) in [
            (
                r#"{"type":"req","id":"1","method":"connect","params":{}}"#,
                true,
            ),
            (
                r#"{"type":"req","id":"1","method":"config.get","params":{}}"#,
                true,
            ),
            (
                r#"{"type":"req","id":"1","method":"health","method":"chat.send","params":{}}"#,
                false,
            ),
            (
                r#"{"type":"req","id":"1","method":"health","m\u0065thod":"chat.send","params":{}}"#,
                false,
            ),
            (
                r#"{"type":"req","id":"1","id":"2","method":"models.list"}"#,
                false,
            ),
            (
                r#"{"type":"req","id":"1","method":"models.list"} trailing"#,
                false,
            ),
            (
                r#"{"type":"req","id":"1","method":"models.list","extra":1}"#,
                true,
            ),
            (
                r#"{"type":"req","id":"1","method":"models.list","params":null}"#,
                true,
            ),
            (
                r#"{"type":"req","id":"1","method":"models.list","params":[]}"#,
                true,
            ),
            (r#"{"type":"req","id":7,"method":"models.list"}"#, false),
            (r#"{"type":"req","id":"","method":"models.list"}"#, false),
            (r#"{"type":"res","id":"1","ok":true}"#, true),
            (r#"{"type":"event","event":"tick"}"#, false),
            (r#"[{"type":"req","id":"1","method":"models.list"}]"#, false),
            ("", false),
            ("null", false),
            (r#"["req","1","models.list",{}]"#, false),
            (
                r#"{"type":"req","id":"1","method":"chat.send","params":["main","k"]}"#,
                true,
            ),
            (
                r#"{"type":"req","id":"1","method":"chat.send","params":{"attachments":[["x"]]}}"#,
                true,
            ),
            ("\u{feff}{}", false),
        ] {
            match parse_request(text) {
                Err(FrameError::Refused { id, .. }) => assert!(answered && &*id == "1", "{text}"),
                Err(FrameError::Malformed) => assert!(!answered, "{text}"),
                Ok(_) => panic!("{text} must be refused"),
            }
        }
        let long = format!(
            r#"{{"type":"req","id":"{}","method":"models.list"}}"#,
            "x".repeat(10_000_000)
        );
        assert!(matches!(parse_request(&long), Err(FrameError::Malformed)));
        let deep = format!(
            r#"{{"type":"req","id":"1","method":"models.list","params":{}"#,
            "[".repeat(100_000)
        );
        assert!(parse_request(&deep).is_err());
    }

    #[test]
    fn ids_of_runs_and_sessions_are_named_for_whoever_knows_whose_they_are() {
        let text = r#"{"type":"req","id":"1","method":"chat.abort","params":{"runId":"r"}}"#;
        assert_eq!(parse_request(text).unwrap().of_run.as_deref(), Some("r"));
        let text = r#"{"type":"req","id":"1","method":"chat.send","params":{"message":"m","sessionId":"s"}}"#;
        assert_eq!(
            parse_request(text).unwrap().of_session.as_deref(),
            Some("s")
        );
    }

    #[test]
    fn a_session_that_begins_with_a_message_begins_with_a_run() {
        for (params, starts) in [
            (r#"{"message":"m"}"#, true),
            (r#"{"label":"l"}"#, false),
            (r#"{"message":""}"#, true),
        ] {
            let text = format!(
                r#"{{"type":"req","id":"1","method":"sessions.create","params":{params}}}"#
            );
            assert_eq!(parse_request(&text).unwrap().starts_run, starts, "{params}");
        }
    }

    #[test]
    fn d3_39_a_refused_method_says_why_and_an_unknown_one_does_not() {
        for (method, why) in [
            (
                "config.get",
                "this is not available here: only an administrator may change or see how this service is set up",
            ),
            ("unknown.future", "this method is not available here"),
        ] {
            for params in ["{}", r#"[1]"#, r#"{"sessionKey":7}"#] {
                let text =
                    format!(r#"{{"type":"req","id":"1","method":"{method}","params":{params}}}"#);
                let Err(FrameError::Refused { refusal, .. }) = parse_request(&text) else {
                    panic!("{text}")
                };
                assert_eq!(refusal.to_string(), why, "{text}");
            }
        }
    }

    #[test]
    fn d3_39_a_slash_command_is_looked_for_wherever_a_message_may_be() {
        for method in ["chat.send", "sessions.create"] {
            for (message, passes) in [
                ("hello", true),
                ("/model a/b", true),
                ("/config show", false),
                (r"\u002fconfig show", false),
                (r"hello \/exec ask=off", false),
            ] {
                let text = format!(
                    r#"{{"type":"req","id":"1","method":"{method}","params":{{"message":"{message}","idempotencyKey":"k"}}}}"#
                );
                let refusal = match parse_request(&text) {
                    Err(FrameError::Refused { refusal, .. }) => Some(refusal),
                    _ => None,
                };
                assert_eq!(refusal.is_none(), passes, "{text}");
                assert!(
                    matches!(refusal, None | Some(Refusal::Command(_))),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn every_method_takes_its_own_parameters_only() {
        assert!(forward(r#"{"type":"req","id":"1","method":"chat.history","params":{"sessionKey":"main","limit":5}}"#).is_ok());
        assert!(forward(r#"{"type":"req","id":"1","method":"chat.history","params":{"sessionKey":"main","message":"x"}}"#).is_err());
        assert!(forward(r#"{"type":"req","id":"1","method":"sessions.subscribe","params":{"key":"agent:user-bob:main"}}"#).is_err());
        assert!(forward(r#"{"type":"req","id":"1","method":"sessions.list","params":{"agentId":"user-bob"}}"#).is_err());
        assert!(
            forward(r#"{"type":"req","id":"1","method":"sessions.list","params":{}}"#)
                .unwrap()
                .contains(AGENT)
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = parse_request(&text);
        }

        #[test]
        fn whatever_is_forwarded_names_only_the_users_own_agent(
            key in "[\\PC]{0,40}|agent:[a-z-]{1,12}:[a-z:]{0,12}", agent in proptest::option::of("[a-z-]{1,12}"), id in "[\\PC]{1,20}",
        ) {
            let mut params = serde_json::json!({"sessionKey": key, "message": "m", "idempotencyKey": "k"});
            if let Some(agent) = agent {
                params["agentId"] = agent.into();
            }
            let text = serde_json::json!({"type": "req", "id": id, "method": "chat.send", "params": params}).to_string();
            if let Ok(frame) = forward(&text) {
                let frame: serde_json::Value = serde_json::from_str(&frame).expect("what we write is JSON");
                prop_assert_eq!(&frame["params"]["agentId"], AGENT);
                prop_assert!(frame["params"]["sessionKey"].as_str().unwrap().starts_with("agent:user-alice:"));
                prop_assert_eq!(&frame["id"], id.as_str());
            }
        }
    }
}
