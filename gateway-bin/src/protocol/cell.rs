//! A client's request frame in a cell. Whose session it names decides nothing there: everything in the cell is its person's
//! own. What is called does, and whether that begins a run.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::method::{Answer, RENEW, StartsRun};
use super::object::Object;
use super::params::Text;
use super::policy::{Policy, Pool, Row, Verdict, find_row, judge};
use super::request::{FrameError, MAX_ID_LEN, MAX_SESSION_KEY_LEN, Refusal, push_json};
use super::slash;
use crate::config::Secret;

/// A request frame that was understood as far as it matters: the call itself is not looked into.
#[derive(Debug)]
pub struct CellRequest {
    /// Names the request in its response.
    pub id: Box<str>,
    /// What is called.
    pub method: &'static Row,
    /// Whether it starts a run.
    pub starts_run: bool,
    /// The run that a run starter names: its idempotency key (OpenClaw makes it the run's id).
    pub run_id: Option<Arc<str>>,
    /// The session that it names.
    pub session: Option<Box<str>>,
    /// The credential of a renewal.
    pub renewal: Option<Secret>,
    /// The frame as the instance gets it.
    pub text: String,
    /// W3C trace context of the frame, which its text does not have yet.
    pub(super) traceparent: Option<Box<str>>,
}

/// What starts a run in a cell beside what does in a pool: each takes one call of the quota. Methods that ask a model for a
/// word or two, such as a title, are not among them: egress counts their tokens, and nobody has asked for a run.
const STARTERS: [(&str, StartsRun); 21] = [
    ("agent", StartsRun::Yes),
    ("conversations.send", StartsRun::Yes),
    ("conversations.turn", StartsRun::Yes),
    ("cron.run", StartsRun::Yes),
    ("mcp.app.callTool", StartsRun::Yes),
    ("message.action", StartsRun::Yes),
    ("progressCard.refresh", StartsRun::Yes),
    ("send", StartsRun::Yes),
    ("sessions.companion.ask", StartsRun::Yes),
    ("sessions.dispatch", StartsRun::Yes),
    ("sessions.goal.update", StartsRun::Yes),
    ("sessions.providerReview.continue", StartsRun::Yes),
    ("sessions.recover", StartsRun::Yes),
    ("sessions.send", StartsRun::Yes),
    ("sessions.steer", StartsRun::Yes),
    ("skills.proposals.evaluate", StartsRun::Yes),
    ("system-event", StartsRun::Yes),
    ("taskSuggestions.accept", StartsRun::Yes),
    ("tasks.retry", StartsRun::Yes),
    ("tools.invoke", StartsRun::Yes),
    ("wake", StartsRun::Yes),
];

/// Parameters that may be what somebody says, in which OpenClaw looks for slash commands.
const SAID: [&str; 5] = ["message", "prompt", "question", "task", "text"];

/// Put in by the shipped page after a reconnect; the instance takes it from that page only.
const RESUME: &str = "__controlUiReconnectResume";

/// Parses a text frame, strictly as [`parse_request`](super::parse_request) does, but for the values of its parameters.
///
/// # Errors
///
/// [`FrameError::Malformed`] where not even the `id` could be read; else the `id` travels with the refusal.
pub fn parse_cell_request(text: &str) -> Result<CellRequest, FrameError> {
    let Object(frame): Object<Frame<'_>> = match serde_json::from_str(text) {
        Ok(frame) => frame,
        Err(_) => return Err(unparsed(text)),
    };
    if frame.kind != "req" || frame.id.is_empty() || frame.id.len() > MAX_ID_LEN {
        return Err(FrameError::Malformed);
    }
    let refuse = |refusal: Refusal| FrameError::Refused {
        id: frame.id.as_ref().into(),
        refusal,
    };
    if frame.method == "connect" {
        return Err(refuse(Refusal::SecondConnect));
    }
    let method = passing(&frame.method).map_err(refuse)?;
    let read = read(method, &frame.params).map_err(refuse)?;
    let mut request = CellRequest {
        id: frame.id.as_ref().into(),
        method,
        starts_run: read.starts_run,
        run_id: read.run_id,
        session: read.session,
        renewal: None,
        text: String::new(),
        traceparent: frame.traceparent.as_deref().map(Into::into),
    };
    if method.name == RENEW {
        let token = frame.params.text("token");
        let token = token.ok_or_else(|| refuse(Refusal::InvalidParams))?;
        request.renewal = Some(Secret::new(token));
        return Ok(request);
    }
    request.text = frame.written(method.name, text.len());
    Ok(request)
}

/// The row of a method that passes.
fn passing(name: &str) -> Result<&'static Row, Refusal> {
    match judge(Policy::Cell, name) {
        Verdict::Pass => find_row(name).ok_or(Refusal::UnknownMethod),
        Verdict::Refuse(reason) => Err(Refusal::Method(reason)),
        Verdict::Unknown => Err(Refusal::UnknownMethod),
    }
}

/// What of a call's parameters matters.
struct Read {
    starts_run: bool,
    run_id: Option<Arc<str>>,
    session: Option<Box<str>>,
}

fn read(method: &Row, params: &Params<'_>) -> Result<Read, Refusal> {
    let in_pool = match &method.pool {
        Pool::Pass(method) => method.starts_run,
        Pool::Refuse(_) => StartsRun::No,
    };
    let mut starters = STARTERS.iter();
    let starts_run = starters.find(|(name, _)| *name == method.name);
    let starts_run = match starts_run.map_or(in_pool, |(_, starts_run)| *starts_run) {
        StartsRun::No => false,
        StartsRun::WithMessage => ["message", "task"]
            .iter()
            .any(|name| params.value(name).is_some()),
        StartsRun::Yes => true,
    };
    let mut read = Read {
        starts_run,
        run_id: None,
        session: None,
    };
    if !starts_run {
        return Ok(read);
    }
    for name in SAID {
        // What is not a text there the instance refuses itself.
        if let Some(said) = params.text(name) {
            slash::check_in(Policy::Cell, &said).map_err(Refusal::Command)?;
        }
    }
    read.run_id = params.text("idempotencyKey").map(Arc::from);
    let session = ["sessionKey", "key"]
        .iter()
        .find_map(|name| params.text(name));
    if session
        .as_ref()
        .is_some_and(|key| key.len() > MAX_SESSION_KEY_LEN)
    {
        return Err(Refusal::InvalidParams);
    }
    read.session = session.map(|key| key.into_owned().into_boxed_str());
    Ok(read)
}

/// Why a frame is not taken that is no request frame of the protocol.
#[cold]
fn unparsed(text: &str) -> FrameError {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
        #[serde(borrow)]
        method: Option<Cow<'a, str>>,
    }
    let Ok(Object(Named { id, method })) = serde_json::from_str::<Object<Named<'_>>>(text) else {
        return FrameError::Malformed;
    };
    if id.is_empty() || id.len() > MAX_ID_LEN {
        return FrameError::Malformed;
    }
    let refusal = match method.as_deref() {
        Some("connect") => Refusal::SecondConnect,
        Some(name) => passing(name).map_or_else(|refusal| refusal, |_| Refusal::InvalidParams),
        None => Refusal::InvalidFrame,
    };
    FrameError::Refused {
        id: id.into(),
        refusal,
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
    params: Params<'a>,
    #[serde(default, borrow)]
    traceparent: Option<Cow<'a, str>>,
    // Known to the protocol; the profile is the instance's own name for the user, whom we have verified ourselves.
    #[serde(default, borrow, rename = "expectedProfileId")]
    _expected_profile_id: Option<Cow<'a, str>>,
}

/// The members of an object, each once, their values unread.
#[derive(Default)]
struct Params<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

// === impl CellRequest ===

impl CellRequest {
    /// The frame for the instance. Taken, it is empty.
    pub(crate) fn take_text(&mut self) -> String {
        let mut text = std::mem::take(&mut self.text);
        if let Some(traceparent) = self.traceparent.take()
            && text.pop().is_some()
        {
            text.push_str(r#","traceparent":"#);
            push_json(&mut text, &traceparent);
            text.push('}');
        }
        text
    }

    /// Who answers it.
    pub(crate) const fn answer(&self) -> Option<Answer> {
        match &self.method.pool {
            Pool::Pass(method) => Some(method.answer),
            Pool::Refuse(_) => None,
        }
    }

    /// The session that it names, where a name without an agent is one of `agent`'s.
    #[must_use]
    pub fn session_of(&self, agent: &str) -> Option<Cow<'_, str>> {
        let key = self.session.as_deref()?;
        Some(match key.starts_with("agent:") {
            true => Cow::Borrowed(key),
            false => Cow::Owned(format!("agent:{agent}:{key}")),
        })
    }
}

// === impl Frame ===

impl Frame<'_> {
    /// The frame as the instance gets it: written from what was understood, in about so many bytes.
    fn written(&self, method: &str, length: usize) -> String {
        let mut frame = String::with_capacity(length + 64);
        frame.push_str(r#"{"type":"req","id":"#);
        push_json(&mut frame, &self.id);
        frame.push_str(r#","method":""#);
        frame.push_str(method);
        frame.push_str(r#"","params":{"#);
        let mut is_first = true;
        let Params(members) = &self.params;
        for (name, value) in members.iter().filter(|(name, _)| name != RESUME) {
            if !std::mem::take(&mut is_first) {
                frame.push(',');
            }
            push_json(&mut frame, name);
            frame.push(':');
            frame.push_str(value.get());
        }
        frame.push_str("}}");
        frame
    }
}

// === impl Params ===

impl<'a> Params<'a> {
    fn value(&self, name: &str) -> Option<&'a RawValue> {
        let mut members = self.0.iter();
        let (_, value) = members.find(|(member, _)| member == name)?;
        Some(value)
    }

    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let Text(text) = serde_json::from_str(self.value(name)?.get()).ok()?;
        Some(text)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Params<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Params<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params<'de>, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    if members.len() >= MAX_PARAMS
                        || members.iter().any(|(other, _)| *other == name)
                    {
                        return Err(A::Error::custom(
                            "a member stands twice, or there are too many",
                        ));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Params(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Most parameters of a call; those of the protocol's own have some dozens.
const MAX_PARAMS: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::policy::Cell;
    use super::super::{ROWS, Reason};
    use super::*;

    fn call(method: &str, params: &str) -> String {
        format!(r#"{{"type":"req","id":"1","method":"{method}","params":{params}}}"#)
    }

    fn refusal(text: &str) -> Option<Refusal> {
        match parse_cell_request(text) {
            Err(FrameError::Refused { refusal, .. }) => Some(refusal),
            _ => None,
        }
    }

    #[test]
    fn d3_39_the_cell_column_decides_whatever_the_parameters() {
        for row in ROWS.iter().filter(|row| row.name != "connect") {
            for params in [
                "{}",
                r#"{"sessionKey":"agent:other:main","x":[1,{"y":null}]}"#,
            ] {
                let text = call(row.name, params);
                match (row.cell, refusal(&text)) {
                    (Cell::Pass, None) => {}
                    // A renewal needs its token.
                    (Cell::Pass, Some(Refusal::InvalidParams)) if row.name == RENEW => {}
                    (Cell::Refuse, Some(Refusal::Method(_))) => {}
                    (_, refusal) => panic!("{}: {refusal:?}", row.name),
                }
            }
            let array = refusal(&call(row.name, "[1]"));
            assert!(array.is_some(), "{}", row.name);
        }
        assert_eq!(
            refusal(&call("unknown.future", "{}")),
            Some(Refusal::UnknownMethod)
        );
        assert_eq!(
            refusal(&call("connect", "{}")),
            Some(Refusal::SecondConnect)
        );
        let refused = refusal(&call("config.patch", "{}"));
        assert_eq!(refused, Some(Refusal::Method(Reason::Administers)));
    }

    #[test]
    fn d3_40_what_can_be_read_in_two_ways_is_refused() {
        for (text, answered) in [
            (call("wake", r#"{"a":1,"a":2}"#), true),
            (call("wake", r#"{"a":1,"\u0061":2}"#), true),
            (call("wake", "{}") + " trailing", false),
            (call("wake", "{}").replace("\"req\"", "\"res\""), false),
            (call("wake", "{}").replace("\"1\"", "7"), false),
            (call("wake", "null"), true),
            (
                r#"{"type":"req","id":"1","method":"wake","extra":1}"#.to_owned(),
                true,
            ),
            (
                r#"{"type":"req","id":"1","id":"2","method":"wake"}"#.to_owned(),
                false,
            ),
            ("[]".to_owned(), false),
        ] {
            match parse_cell_request(&text) {
                Err(FrameError::Refused { .. }) => assert!(answered, "{text}"),
                Err(FrameError::Malformed) => assert!(!answered, "{text}"),
                Ok(_) => panic!("{text} must be refused"),
            }
        }
    }

    #[test]
    fn a_call_goes_on_as_it_is() {
        let text = r#"{"id":"a\"b","type":"req","params":{"sessionKey":"agent:x:y", "n":1e3,
            "__controlUiReconnectResume":true,"message":"h\u00e9"},"method":"chat.send","traceparent":"00-1"}"#;
        let mut request = parse_cell_request(text).unwrap();
        assert_eq!(
            request.take_text(),
            r#"{"type":"req","id":"a\"b","method":"chat.send","params":{"sessionKey":"agent:x:y","n":1e3,"message":"h\u00e9"},"traceparent":"00-1"}"#
        );
        assert_eq!(request.session_of("main").as_deref(), Some("agent:x:y"));
        let text = call(
            "agent",
            r#"{"message":"m","sessionKey":"main","idempotencyKey":"k"}"#,
        );
        let request = parse_cell_request(&text).unwrap();
        assert_eq!(
            request.session_of("main").as_deref(),
            Some("agent:main:main")
        );
        assert_eq!(request.run_id.as_deref(), Some("k"));
        let renewal = parse_cell_request(&call(RENEW, r#"{"token":"t"}"#)).unwrap();
        assert_eq!(renewal.renewal.unwrap().expose(), "t");
    }

    #[test]
    fn what_starts_a_run_takes_a_call() {
        for (name, _) in STARTERS {
            assert_eq!(judge(Policy::Cell, name), Verdict::Pass, "{name}");
        }
        for (method, params, starts) in [
            ("chat.send", "{}", true),
            ("agent", r#"{"message":"m"}"#, true),
            ("tools.invoke", "{}", true),
            ("sessions.create", "{}", false),
            ("sessions.create", r#"{"message":"m"}"#, true),
            ("sessions.create", r#"{"task":"t"}"#, true),
            ("chat.history", r#"{"message":"m"}"#, false),
            ("agents.files.get", "{}", false),
        ] {
            let request = parse_cell_request(&call(method, params)).unwrap();
            assert_eq!(request.starts_run, starts, "{method} {params}");
        }
        let long = format!(r#"{{"sessionKey":"{}"}}"#, "x".repeat(600));
        assert_eq!(
            refusal(&call("chat.send", &long)),
            Some(Refusal::InvalidParams)
        );
    }

    #[test]
    fn d3_39_a_slash_command_is_looked_for_in_what_is_said() {
        for method in ["chat.send", "agent", "sessions.create", "sessions.send"] {
            for (said, passes) in [
                (r#"{"message":"hello"}"#, true),
                (r#"{"message":"/config show"}"#, false),
                (r#"{"message":"\u002fconfig show"}"#, false),
                (r#"{"message":"please /exec ask=off"}"#, false),
                (r#"{"message":"hi","task":"/restart"}"#, false),
                (r#"{"message":"/goal x"}"#, true),
            ] {
                let refusal = refusal(&call(method, said));
                assert_eq!(refusal.is_none(), passes, "{method} {said}: {refusal:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _ = parse_cell_request(&text);
        }

        #[test]
        fn what_is_written_is_what_was_read(name in "[\\PC]{1,12}", id in "[\\PC]{1,20}", value in "[\\PC]{0,40}") {
            prop_assume!(name != RESUME);
            let text = serde_json::json!({"type": "req", "id": id, "method": "users.prefs.set", "params": {&name: value}});
            let request = parse_cell_request(&text.to_string()).unwrap();
            let written: serde_json::Value = serde_json::from_str(&request.text).unwrap();
            prop_assert_eq!(written, text);
        }
    }
}
