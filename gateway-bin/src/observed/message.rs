use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tower_usage::{Operation, Outcome, PriceList, RecordId, Source, TokenCounts, UsageRecord};

use crate::counters::UNRESERVED;
use crate::instance::slot_of;

/// The provider that OpenClaw names where it writes a message itself.
const ITSELF: &str = "openclaw";

/// Counts above this are no counts: JavaScript has no greater integers (`Number.MAX_SAFE_INTEGER`).
const MOST: u64 = (1 << 53) - 1;

/// A model's answer as an instance has it in a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Message {
    /// The session it is in.
    pub session_key: Arc<str>,
    /// When it was written there, in milliseconds since 1970 by the instance's clock.
    pub written_ms: u64,
    began_ms: u64,
    id: Arc<str>,
    provider: Option<Arc<str>>,
    model: Option<Arc<str>>,
    requested_model: Option<Arc<str>>,
    response_id: Option<Arc<str>>,
    run_id: Option<Arc<str>>,
    tokens: TokenCounts,
    outcome: Outcome,
}

/// Who pays for what an agent did.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Subject {
    /// Whoever has this slot.
    Slot(u32),
    /// The instance itself.
    Instance,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Announced<'a> {
    session_key: Arc<str>,
    #[serde(borrow)]
    message: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    role: String,
    provider: Option<Arc<str>>,
    model: Option<Arc<str>>,
    response_model: Option<Arc<str>>,
    response_id: Option<Arc<str>>,
    stop_reason: Option<String>,
    timestamp: Option<f64>,
    usage: Option<Usage>,
    openclaw_abort: Option<Abort>,
    #[serde(rename = "__openclaw")]
    openclaw: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    #[serde(default)]
    input: Value,
    #[serde(default)]
    output: Value,
    #[serde(default)]
    cache_read: Value,
    #[serde(default)]
    cache_write: Value,
    #[serde(default)]
    reasoning_tokens: Value,
}

#[derive(Deserialize)]
struct Abort {
    aborted: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    id: Arc<str>,
    run_id: Option<Arc<str>>,
    record_timestamp_ms: Option<f64>,
}

// === impl Message ===

impl Message {
    /// The answer that an instance announces by `session.message`; `None` if that is something else.
    #[must_use]
    pub fn announced(payload: &RawValue) -> Option<Self> {
        let Announced {
            session_key,
            message,
        } = serde_json::from_str(payload.get()).ok()?;
        Self::of(session_key, serde_json::from_str(message.get()).ok()?)
    }

    /// The answer that is in the history of a session; `None` if that is something else.
    #[must_use]
    pub fn of_history(session_key: &Arc<str>, message: &Value) -> Option<Self> {
        Self::of(Arc::clone(session_key), Written::deserialize(message).ok()?)
    }

    fn of(session_key: Arc<str>, written: Written) -> Option<Self> {
        let usage = written.usage.filter(|_| written.role == "assistant")?;
        let was_aborted = written.openclaw_abort.is_some_and(|abort| abort.aborted);
        let by_itself = written.provider.as_deref() == Some(ITSELF);
        if by_itself && !was_aborted {
            // An answer to a command, for which no model was asked.
            return None;
        }
        let written_ms = millis(written.openclaw.record_timestamp_ms.or(written.timestamp)?)?;
        let outcome = match written.stop_reason.as_deref() {
            _ if was_aborted => Outcome::Aborted,
            Some("aborted") => Outcome::Aborted,
            Some("error") => Outcome::Failed,
            _ => Outcome::Complete,
        };
        let tokens = usage.tokens();
        let message = Self {
            session_key,
            written_ms,
            began_ms: written.timestamp.and_then(millis).unwrap_or(written_ms),
            id: written.openclaw.id,
            requested_model: written.model,
            model: written.response_model,
            provider: written.provider,
            response_id: written.response_id,
            run_id: written.openclaw.run_id,
            // Zeros of what did not end well are not known, not nothing.
            tokens: match outcome == Outcome::Complete || tokens.total() > 0 {
                true => tokens,
                false => TokenCounts::default(),
            },
            outcome,
        };
        Some(match by_itself {
            // What stands for the call that was aborted says nothing about it.
            true => Self {
                provider: None,
                requested_model: None,
                ..message
            },
            false => message,
        })
    }

    /// Who pays for it.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let slot = self.agent().and_then(slot_of);
        slot.map_or(Subject::Instance, Subject::Slot)
    }

    /// Whether it came by a provider that we gave to the agent, of today's configuration or of an earlier one: that is behind
    /// our egress, and recorded there.
    #[must_use]
    pub fn came_by_egress(&self) -> bool {
        let provider = self.provider.as_deref().unwrap_or_default();
        let agent = self.agent().unwrap_or_default();
        let of_agent = provider.strip_prefix(agent).filter(|_| !agent.is_empty());
        of_agent.is_some_and(|rest| rest.starts_with('-'))
    }

    /// The provider's id of the answer.
    #[must_use]
    pub const fn response_id(&self) -> Option<&Arc<str>> {
        self.response_id.as_ref()
    }

    /// The id of its record: of version 7, of the time when the call began, and what is random in others is a hash of
    /// what names the message.
    ///
    /// The provider's id alone does not: some count their answers, and begin anew.
    #[must_use]
    pub fn record_id(&self, instance: &str) -> RecordId {
        let named = match &self.response_id {
            // A session that is copied has the message again, under another id of OpenClaw's.
            Some(id) => ["response", instance, id],
            None => ["message", instance, &self.id],
        };
        let hash = digest(&SHA256, named.join("\0").as_bytes());
        let mut bits = [0; 16];
        let length = bits.len();
        bits.copy_from_slice(hash.as_ref().get(..length).unwrap_or(&[0; 16]));
        let random = u128::from_be_bytes(bits);
        let time = u128::from(self.began_ms & ((1 << 48) - 1)) << 80;
        // RFC 9562 §5.7: 48 bits of time, version, 12 bits, variant, 62 bits.
        let fixed = (7 << 76) | (0b10 << 62);
        let free = (0xfff << 64) | ((1 << 62) - 1);
        RecordId::from_u128(time | fixed | (random & free))
    }

    /// Its record, of whoever pays.
    #[must_use]
    pub fn record(&self, instance: &str, subject: Arc<str>, prices: &PriceList) -> UsageRecord {
        let mut record = UsageRecord::new(subject, Operation::ModelCall);
        record.id = self.record_id(instance);
        record.admitted_at = time(self.began_ms);
        record.ended_at = time(self.written_ms.max(self.began_ms));
        record.provider.clone_from(&self.provider);
        // OpenClaw says which model answered where it was another than the one that was asked.
        let model = self.model.as_ref().or(self.requested_model.as_ref());
        record.model = model.cloned();
        record.requested_model.clone_from(&self.requested_model);
        record.response_id.clone_from(&self.response_id);
        record.run_id.clone_from(&self.run_id);
        record.session_key = Some(Arc::clone(&self.session_key));
        record.tokens = self.tokens;
        record.source = Source::Observed;
        record.outcome = self.outcome;
        record.settle_ref = Some(UNRESERVED.into());
        record.price(prices);
        record
    }

    fn agent(&self) -> Option<&str> {
        agent_of(&self.session_key)
    }
}

/// The agent that a session is of.
pub(crate) fn agent_of(session_key: &str) -> Option<&str> {
    let (agent, _) = session_key.strip_prefix("agent:")?.split_once(':')?;
    Some(agent)
}

// === impl Usage ===

impl Usage {
    /// OpenClaw's input excludes what has to do with a cache, and its output includes what was thought: as ours.
    fn tokens(&self) -> TokenCounts {
        let mut tokens = TokenCounts::default();
        tokens.input = count(&self.input);
        tokens.output = count(&self.output);
        tokens.cache_read = count(&self.cache_read);
        tokens.cache_write = count(&self.cache_write);
        tokens.reasoning = count(&self.reasoning_tokens);
        tokens
    }
}

/// What is negative, absurdly large or no number is not reported.
fn count(value: &Value) -> Option<u64> {
    let whole = value.as_u64().or_else(|| millis(value.as_f64()?));
    whole.filter(|count| *count <= MOST)
}

/// A number of JavaScript's as a whole one.
fn millis(number: f64) -> Option<u64> {
    let fits = number.is_finite() && (0.0..=MOST as f64).contains(&number);
    // Within these bounds nothing is lost but a fraction.
    fits.then_some(number as u64)
}

fn time(millis: u64) -> SystemTime {
    let since = Duration::from_millis(millis);
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tower_usage::{NanoUsd, PriceEntry, Rate};

    use super::*;

    const KEY: &str = "agent:slot-002:main";

    fn written() -> Value {
        json!({
            "role": "assistant", "api": "openai-completions", "provider": "acme", "model": "m-1",
            "usage": {"input": 200, "output": 10, "cacheRead": 3, "cacheWrite": 4, "reasoningTokens": 5,
                "totalTokens": 217, "cost": {"total": 0.5}},
            "stopReason": "stop", "timestamp": 1_795_358_576_973_u64, "responseId": "chatcmpl-45",
            "__openclaw": {"runId": "run-1", "id": "00685a3b", "recordTimestampMs": 1_795_358_577_067_u64},
        })
    }

    fn read(message: &Value) -> Option<Message> {
        Message::of_history(&KEY.into(), message)
    }

    fn with(change: impl FnOnce(&mut Value)) -> Option<Message> {
        let mut message = written();
        change(&mut message);
        read(&message)
    }

    fn record(message: &Message) -> UsageRecord {
        let dollar = |text: &str| text.parse().unwrap();
        let rate = Rate::new(dollar("3"), dollar("15"));
        let prices = PriceList::new([PriceEntry::new("m-1", rate)]).unwrap();
        message.record("pool-1", "alice".into(), &prices)
    }

    #[test]
    fn an_announced_answer_and_the_one_in_the_history_are_one_record() {
        let payload = json!({"sessionKey": KEY, "agentId": "slot-002", "message": written(), "messageSeq": 6});
        let payload = RawValue::from_string(payload.to_string()).unwrap();
        let announced = record(&Message::announced(&payload).unwrap());
        assert_eq!(announced, record(&read(&written()).unwrap()));
        assert_eq!(announced.tokens.total(), 217);
        assert_eq!(announced.tokens.reasoning, Some(5));
        assert_eq!(announced.source, Source::Observed);
        assert_eq!(announced.settle_ref.as_deref(), Some(UNRESERVED));
        assert_eq!(announced.run_id.as_deref(), Some("run-1"));
        assert_eq!(announced.session_key.as_deref(), Some(KEY));
        assert_eq!(
            announced.cost,
            Some(NanoUsd::from_nanos(207 * 3_000 + 150_000)),
            "by our prices"
        );
    }

    #[test]
    fn d6_60_ids_sort_by_time_and_tell_messages_apart() {
        let id = |message: Option<Message>| message.unwrap().record_id("pool-1");
        let first = id(read(&written()));
        let text = first.to_string();
        assert_eq!(
            (&text[14..15], "89ab".contains(&text[19..20])),
            ("7", true),
            "{text}"
        );
        assert_eq!(first, id(with(|m| m["__openclaw"]["id"] = "copied".into())));
        assert_ne!(first, id(with(|m| m["responseId"] = "chatcmpl-46".into())));
        let later = id(with(|m| m["timestamp"] = 1_795_358_576_974_u64.into()));
        assert!(first < later, "a provider may give an id again");
        assert_ne!(first, read(&written()).unwrap().record_id("pool-2"));
        let without = |message_id: &str| {
            id(with(|m| {
                m.as_object_mut().unwrap().remove("responseId");
                m["__openclaw"]["id"] = message_id.into();
            }))
        };
        assert_eq!(without("a"), without("a"));
        assert_ne!(without("a"), without("b"));
    }

    #[test]
    fn who_pays_is_told_by_the_agent() {
        let subject = |key: &str| {
            Message::of_history(&key.into(), &written())
                .unwrap()
                .subject()
        };
        assert_eq!(subject(KEY), Subject::Slot(2));
        assert_eq!(subject("agent:slot-002:subagent:1"), Subject::Slot(2));
        for other in [
            "agent:main:main",
            "agent:slot-2:main",
            "main",
            "agent:slot-002",
            "cron:slot-002:x",
        ] {
            assert_eq!(subject(other), Subject::Instance, "{other}");
        }
    }

    #[test]
    fn d6_58_counts_that_are_none_are_not_reported_and_zero_is() {
        let message = with(|m| {
            m["usage"] = json!({"input": 0, "output": -1, "cacheRead": "7", "cacheWrite": 1e300});
        });
        let tokens = record(&message.unwrap()).tokens;
        assert_eq!(tokens.input, Some(0));
        assert_eq!(
            (tokens.output, tokens.cache_read, tokens.cache_write),
            (None, None, None)
        );
        let tokens =
            record(&with(|m| m["usage"] = json!({"input": 12.0, "output": null})).unwrap()).tokens;
        assert_eq!((tokens.input, tokens.output), (Some(12), None));
    }

    #[test]
    fn what_is_no_answer_of_a_model_is_no_record() {
        for (name, change) in [
            ("a user's", json!({"role": "user"})),
            ("without usage", json!({"usage": null})),
            (
                "of a command",
                json!({"provider": "openclaw", "model": "gateway-injected"}),
            ),
            ("nonsense", json!({"timestamp": "x"})),
            ("without an id", json!({"__openclaw": {}})),
        ] {
            let message = with(|m| {
                for (key, value) in change.as_object().unwrap() {
                    m[key] = value.clone();
                }
            });
            assert!(message.is_none(), "{name}");
        }
    }

    #[test]
    fn d6_60_what_was_aborted_or_failed_is_recorded_without_tokens() {
        let zeros =
            json!({"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 0});
        let aborted = with(|m| {
            m["usage"] = zeros.clone();
            m["provider"] = "openclaw".into();
            m["model"] = "gateway-injected".into();
            m["openclawAbort"] = json!({"aborted": true, "runId": "run-1"});
            m.as_object_mut().unwrap().remove("responseId");
        });
        let aborted = record(&aborted.unwrap());
        assert_eq!(
            (aborted.outcome, aborted.tokens),
            (Outcome::Aborted, TokenCounts::default())
        );
        assert_eq!(
            (aborted.model, aborted.provider, aborted.cost),
            (None, None, None)
        );
        let failed = record(
            &with(|m| {
                m["usage"] = zeros;
                m["stopReason"] = "error".into();
            })
            .unwrap(),
        );
        assert_eq!(
            (failed.outcome, failed.tokens),
            (Outcome::Failed, TokenCounts::default())
        );
        let in_part = record(&with(|m| m["stopReason"] = "aborted".into()).unwrap());
        assert_eq!(
            (in_part.outcome, in_part.tokens.total()),
            (Outcome::Aborted, 217)
        );
    }

    #[test]
    fn d6_61_the_model_that_answered_is_billed() {
        let message = with(|m| m["responseModel"] = "m-1".into());
        let record_of_it = record(
            &with(|m| {
                m["model"] = "cheap".into();
                m["responseModel"] = "m-1".into();
            })
            .unwrap(),
        );
        assert_eq!(record_of_it.model.as_deref(), Some("m-1"));
        assert_eq!(record_of_it.requested_model.as_deref(), Some("cheap"));
        assert_eq!(record_of_it.cost, record(&message.unwrap()).cost);
    }

    #[test]
    fn what_came_by_egress_is_recorded_there() {
        let by = |provider: &str| {
            let message = with(|m| m["provider"] = provider.into()).unwrap();
            message.came_by_egress()
        };
        assert!(by("slot-002-openai") && by("slot-002-one-that-was-renamed"));
        for own in ["openai", "slot-003-openai", "slot-002openai"] {
            assert!(!by(own), "{own}");
        }
    }
}
