//! What the instance sends.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::view::{Owner, View};

/// A frame of the instance, read as far as forwarding needs it: once, borrowed, the payload not built.
#[derive(Debug, Deserialize)]
pub struct InstanceFrame<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    ok: bool,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    payload: Payload<'a>,
    /// The number among the events of the connection, in the frame's own digits.
    #[serde(borrow, default)]
    seq: Option<&'a RawValue>,
}

/// What a frame turned out to be.
#[derive(Debug)]
#[non_exhaustive]
pub enum Kind<'f> {
    /// The answer to the request `id`.
    Response {
        /// `id` of the request.
        id: &'f str,
        /// Whether it was carried out.
        ok: bool,
        /// `payload.status`, with which run starters say whether they started one.
        status: Option<&'f str>,
        /// `payload.runId`.
        run_id: Option<&'f str>,
    },
    /// The event of that name.
    Event(&'f str),
    /// Not for clients.
    Other,
}

/// The members of a payload that are looked at.
#[derive(Debug, Default)]
struct Payload<'a> {
    session_key: Option<Cow<'a, str>>,
    agent_id: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    run_id: Option<Cow<'a, str>>,
    state: Option<Cow<'a, str>>,
    session_id: Option<Cow<'a, str>>,
    /// `session.sessionId`.
    of_session: Option<Cow<'a, str>>,
    /// `inFlightRun.runId`.
    in_flight: Option<Cow<'a, str>>,
}

/// Numbers the events of one connection anew, since clients take a gap for a loss and those of others are dropped.
#[derive(Debug, Default)]
pub struct Renumber {
    dropped: u64,
}

/// What a user was shown last of what everybody is told: an event that changes nothing for them is not sent, since it
/// would tell that something has changed for somebody else.
#[derive(Debug, Default)]
pub struct LastShown {
    health: Option<Value>,
    presence: Option<Value>,
}

// === impl InstanceFrame ===

impl InstanceFrame<'_> {
    /// What the frame is.
    #[must_use]
    pub fn kind(&self) -> Kind<'_> {
        match (&*self.kind, &self.id, &self.event) {
            ("res", Some(id), _) => Kind::Response {
                id,
                ok: self.ok,
                status: self.payload.status.as_deref(),
                run_id: self.payload.run_id.as_deref(),
            },
            ("event", _, Some(event)) => Kind::Event(event),
            _ => Kind::Other,
        }
    }

    /// Whether the event says that a run is over.
    #[must_use]
    pub fn ends_run(&self) -> bool {
        self.event.as_deref() == Some("chat")
            && matches!(
                self.payload.state.as_deref(),
                Some("final" | "error" | "aborted")
            )
    }

    /// The ids of runs that the frame names.
    pub fn runs(&self) -> impl Iterator<Item = &str> {
        let Payload {
            run_id, in_flight, ..
        } = &self.payload;
        [run_id, in_flight]
            .into_iter()
            .filter_map(|id| id.as_deref())
    }

    /// The ids of sessions that the frame names.
    pub fn sessions(&self) -> impl Iterator<Item = &str> {
        let Payload {
            session_id,
            of_session,
            ..
        } = &self.payload;
        [session_id, of_session]
            .into_iter()
            .filter_map(|id| id.as_deref())
    }

    /// Whether the event is about the agent of `owner` and about nobody else.
    #[must_use]
    pub fn is_of(&self, owner: &Owner) -> bool {
        let of_session = self
            .payload
            .session_key
            .as_deref()
            .map(|key| owner.has_session(key));
        let of_agent = self
            .payload
            .agent_id
            .as_deref()
            .map(|id| id == &*owner.agent);
        match (of_session, of_agent) {
            (None, None) => false,
            (session, id) => session.unwrap_or(true) && id.unwrap_or(true),
        }
    }
}

// === impl Renumber ===

impl Renumber {
    /// Notes that an event is not forwarded.
    pub fn drop_event(&mut self, event: &InstanceFrame<'_>) {
        if event.seq.is_some() {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// The frame `text` with the number that the client expects; `None`: as it is.
    #[must_use]
    pub fn number(&self, event: &InstanceFrame<'_>, text: &str) -> Option<String> {
        if self.dropped == 0 {
            return None;
        }
        let digits = event.seq?.get();
        let seq = self.seq(event)?;
        // The digits are a part of `text`, which was parsed without a copy.
        let start = (digits.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
        let (head, tail) = (
            text.get(..start)?,
            text.get(start.checked_add(digits.len())?..)?,
        );
        let mut frame = String::with_capacity(text.len());
        frame.push_str(head);
        frame.push_str(&seq.to_string());
        frame.push_str(tail);
        Some(frame)
    }

    /// The number that the client expects.
    fn seq(&self, event: &InstanceFrame<'_>) -> Option<u64> {
        let seq: u64 = event.seq?.get().parse().ok()?;
        Some(seq.saturating_sub(self.dropped))
    }
}

// === impl LastShown ===

impl LastShown {
    /// The event `text` as `owner` may see it, with the number that `renumber` gives it; `None` if it has nothing new
    /// for them.
    #[must_use]
    pub fn event(
        &mut self,
        event: &InstanceFrame<'_>,
        text: &str,
        (view, owner): (View, &Owner),
        renumber: &Renumber,
    ) -> Option<String> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            payload: &'a RawValue,
        }
        let name = event.event.as_deref()?;
        let Body { payload } = serde_json::from_str(text).ok()?;
        let shown = owner.read(payload, view)?;
        let last = match view {
            View::Health => &mut self.health,
            _ => &mut self.presence,
        };
        // When it was looked at, and how long that took, is no news.
        let mut news = shown.clone();
        for passing in ["ts", "durationMs"] {
            if let Some(members) = news.as_object_mut() {
                members.remove(passing);
            }
        }
        if last.as_ref() == Some(&news) {
            return None;
        }
        *last = Some(news);
        let mut frame = serde_json::json!({"type": "event", "event": name, "payload": shown});
        if let (Some(seq), Some(members)) = (renumber.seq(event), frame.as_object_mut()) {
            members.insert("seq".to_owned(), seq.into());
        }
        Some(frame.to_string())
    }
}

// === impl Payload ===

impl<'de: 'a, 'a> Deserialize<'de> for Payload<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<'a>(Payload<'a>);

        impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
            type Value = Payload<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a payload")
            }

            fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Payload<'a>, A::Error> {
                while let Some(Str(name)) = map.next_key::<Str<'de>>()? {
                    let slot = match name.as_deref() {
                        Some("sessionKey") => &mut self.0.session_key,
                        Some("agentId") => &mut self.0.agent_id,
                        Some("status") => &mut self.0.status,
                        Some("runId") => &mut self.0.run_id,
                        Some("state") => &mut self.0.state,
                        Some("sessionId") => &mut self.0.session_id,
                        Some("session") => {
                            self.0.of_session = map.next_value::<Payload<'de>>()?.session_id;
                            continue;
                        }
                        Some("inFlightRun") => {
                            self.0.in_flight = map.next_value::<Payload<'de>>()?.run_id;
                            continue;
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *slot = map.next_value::<Str<'de>>()?.0;
                }
                Ok(self.0)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Payload<'a>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(self.0)
            }

            fn visit_unit<E>(self) -> Result<Payload<'a>, E> {
                Ok(self.0)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Payload<'a>, E> {
                Ok(self.0)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Payload<'a>, E> {
                Ok(self.0)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Payload<'a>, E> {
                Ok(self.0)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Payload<'a>, E> {
                Ok(self.0)
            }

            fn visit_str<E>(self, _: &str) -> Result<Payload<'a>, E> {
                Ok(self.0)
            }
        }

        deserializer.deserialize_any(Members(Payload::default()))
    }
}

/// A string, borrowed where it has no escapes; anything else is none. An instance's payloads differ by method, and one
/// with a number in the place of a string must not look broken.
struct Str<'a>(Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Str<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Str<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Str(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Str<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Str(None))
            }

            fn visit_unit<E>(self) -> Result<Str<'de>, E> {
                Ok(Str(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Str<'de>, E> {
                Ok(Str(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Str<'de>, E> {
                Ok(Str(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Str<'de>, E> {
                Ok(Str(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Str<'de>, E> {
                Ok(Str(None))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> InstanceFrame<'_> {
        serde_json::from_str(text).unwrap()
    }

    fn alice() -> Owner {
        Owner::new("user-alice", "alice")
    }

    #[test]
    fn the_ids_of_runs_and_sessions_are_read() {
        let text = r#"{"type":"res","id":"1","ok":true,"payload":{"runId":"r1","sessionId":"s1","session":{"sessionId":"s2","runId":"x"},"inFlightRun":{"runId":"r2","sessionId":"x"}}}"#;
        let frame = event(text);
        assert_eq!(frame.runs().collect::<Vec<_>>(), ["r1", "r2"]);
        assert_eq!(frame.sessions().collect::<Vec<_>>(), ["s1", "s2"]);
        let odd = r#"{"type":"res","id":"1","ok":true,"payload":{"session":7,"inFlightRun":[{}],"runId":null}}"#;
        assert_eq!(event(odd).runs().count() + event(odd).sessions().count(), 0);
    }

    #[test]
    fn what_everybody_is_told_is_shown_when_it_changes_for_oneself() {
        let (mut last, renumber) = (LastShown::default(), Renumber { dropped: 2 });
        let mut show = |who: &str, seq: u64| {
            let text = format!(
                r#"{{"type":"event","event":"presence","payload":{{"presence":[{{"user":{{"email":"{who}"}}}}]}},"seq":{seq},"stateVersion":{{"presence":9}}}}"#
            );
            last.event(&event(&text), &text, (View::Presence, &alice()), &renumber)
        };
        assert_eq!(
            show("alice", 5).unwrap(),
            r#"{"event":"presence","payload":{"presence":[{"user":{"email":"alice"}}]},"seq":3,"type":"event"}"#
        );
        assert_eq!(show("alice", 6), None);
        assert!(show("bob", 7).unwrap().contains("[]"), "alice has left");
        assert_eq!(show("carol", 8), None, "others come and go unseen");
    }

    #[test]
    fn an_event_belongs_to_the_agent_that_all_its_names_agree_on() {
        for (payload, own) in [
            (
                r#"{"sessionKey":"agent:user-alice:main","agentId":"user-alice","seq":1}"#,
                true,
            ),
            (r#"{"sessionKey":"agent:user-alice:main"}"#, true),
            (r#"{"agentId":"user-alice"}"#, true),
            (r#"{"sessionKey":"agent:user-alice2:main"}"#, false),
            (r#"{"sessionKey":"agent:user-alice"}"#, false),
            (
                r#"{"sessionKey":"agent:user-bob:main","agentId":"user-alice"}"#,
                false,
            ),
            (
                r#"{"sessionKey":"agent:user-alice:main","agentId":"user-bob"}"#,
                false,
            ),
            (r#"{"runId":"r"}"#, false),
            ("{}", false),
        ] {
            let text = format!(r#"{{"type":"event","event":"chat","payload":{payload},"seq":7}}"#);
            assert_eq!(event(&text).is_of(&alice()), own, "{payload}");
        }
        assert!(!event(r#"{"type":"event","event":"chat"}"#).is_of(&alice()));
    }

    #[test]
    fn numbers_have_no_gap_when_events_are_dropped() {
        let mut renumber = Renumber::default();
        let first = r#"{"type":"event","event":"tick","payload":{"seq":99},"seq":1}"#;
        assert_eq!(renumber.number(&event(first), first), None);
        renumber.drop_event(&event(
            r#"{"type":"event","event":"presence","payload":{},"seq":2}"#,
        ));
        renumber.drop_event(&event(
            r#"{"type":"event","event":"presence","payload":{}}"#,
        ));
        let third = r#"{"type":"event","event":"tick","payload":{"seq":99},"seq":3,"recipientProfileId":"p"}"#;
        assert_eq!(
            renumber.number(&event(third), third).unwrap(),
            r#"{"type":"event","event":"tick","payload":{"seq":99},"seq":2,"recipientProfileId":"p"}"#
        );
    }

    #[test]
    fn a_response_of_any_payload_is_read() {
        for payload in [
            r#"{"status":"started","runId":"r"}"#,
            r#"{"status":1}"#,
            "[1,{}]",
            "null",
            "7",
            "-7",
            "0.5",
            "true",
            r#""x\u0041""#,
        ] {
            let text = format!(r#"{{"type":"res","id":"1","ok":true,"payload":{payload}}}"#);
            let frame = event(&text);
            let Kind::Response {
                id: "1",
                ok: true,
                status,
                ..
            } = frame.kind()
            else {
                panic!("{text}")
            };
            assert_eq!(status.is_some(), payload.contains("started"), "{payload}");
        }
    }

    #[test]
    fn unknown_events_and_frames_are_for_nobody() {
        assert!(matches!(
            event(r#"{"type":"hello","x":1}"#).kind(),
            Kind::Other
        ));
    }
}
