//! What an instance says of one session. Times are in milliseconds since 1970, by the instance's clock.
//!
//! `chat.history` is what people are shown: an answer of nothing but `NO_REPLY` is not in it, which a gap in the numbers of
//! its messages tells, and in place of one above 128 KiB, which a tool's arguments may make it, stands another. `chat.message.get`
//! has the latter, and `sessions.get` has everything, but whole, and only from the end on (observed of OpenClaw 2026.9.6).

use std::sync::Arc;

use serde_json::{Value, json};
use tracing::warn;

use super::message::Message;
use crate::instance::{Admin, AdminError};

/// Messages of one answer; the most that OpenClaw takes for `limit`.
const MESSAGES: u64 = 1_000;

/// A bound on what is read of one session.
const PAGES: usize = 50;

/// So much at a time is asked for with all that is in it, in bytes.
const WHOLE: usize = 4 << 20;

/// And so many messages more, one by one: the largest there can be, of 25 MiB, still fits into an answer then.
const FURTHER: u64 = 16;

/// The longest text for which OpenClaw takes `maxChars`.
const CHARS: u64 = 500_000;

/// A session that is read from its end to a time.
struct Reading {
    from: u64,
    answers: Vec<Message>,
    /// What is too large to be shown.
    large: Vec<String>,
    /// The number of the message that was read last; at first, the one after the last.
    number: Option<u64>,
    /// The first message that is not shown.
    hidden: Option<u64>,
}

/// The answers in a session that were written since then; none in one that is not there any more.
///
/// # Errors
///
/// See [`AdminError`].
pub(super) async fn answers(
    admin: &Admin,
    session_key: &Arc<str>,
    from: u64,
) -> Result<Vec<Message>, AdminError> {
    let mut reading = Reading {
        from,
        answers: Vec::new(),
        large: Vec::new(),
        number: None,
        hidden: None,
    };
    let mut total = 0;
    let mut offset = 0;
    for _ in 0..PAGES {
        // What people wrote is nobody's business here.
        let params = json!({
            "sessionKey": &**session_key, "limit": MESSAGES, "offset": offset, "maxChars": 1,
        });
        let Some(page) = found(admin.call("chat.history", params).await)? else {
            break;
        };
        if reading.number.is_none() {
            total = page
                .get("totalMessages")
                .and_then(Value::as_u64)
                .unwrap_or(0);
            reading.number = Some(total.saturating_add(1));
        }
        let is_over = reading.page(session_key, messages(&page));
        match page.get("nextOffset").and_then(Value::as_u64) {
            Some(next) if next > offset && !is_over => offset = next,
            Some(_) => break,
            None if is_over => break,
            None => {
                reading.begin();
                break;
            }
        }
    }
    for id in std::mem::take(&mut reading.large) {
        let params = json!({"sessionKey": &**session_key, "messageId": id, "maxChars": 1});
        let one = found(admin.call("chat.message.get", params).await)?;
        let message = one.as_ref().and_then(|one| one.get("message"));
        reading.take(session_key, message);
    }
    let mut all = reading.answers;
    if let Some(down_to) = reading.hidden {
        let wanted = total.saturating_sub(down_to).saturating_add(1);
        let small = small(admin, session_key, wanted).await?;
        all.extend(hidden(admin, session_key, down_to, small.min(wanted), from).await?);
    }
    Ok(all)
}

/// The answers in a session from that message on, also those that nobody is shown, as far as they were written since then.
/// At first the latest `count` messages are read.
///
/// # Errors
///
/// See [`AdminError`].
pub(super) async fn hidden(
    admin: &Admin,
    session_key: &Arc<str>,
    down_to: u64,
    count: u64,
    from: u64,
) -> Result<Vec<Message>, AdminError> {
    let mut count = count.max(1);
    let most = count.saturating_add(FURTHER);
    loop {
        let params = json!({"key": &**session_key, "limit": count});
        let Some(page) = found(admin.call("sessions.get", params).await)? else {
            return Ok(Vec::new());
        };
        let messages = messages(&page);
        let first = messages.iter().find_map(number);
        let is_all = u64::try_from(messages.len()).is_ok_and(|len| len < count)
            || first.is_none_or(|first| first <= down_to);
        let is_most = count >= most || size(&page) > WHOLE;
        if is_all || is_most {
            if !is_all {
                warn!("an answer that nobody is shown is too far back to be read");
            }
            let answers = messages
                .iter()
                .filter_map(|message| Message::of_history(session_key, message));
            return Ok(answers.filter(|answer| answer.written_ms >= from).collect());
        }
        count = count.saturating_add(1);
    }
}

/// How many of a session's latest messages, `wanted` at most, are small enough to be read whole.
async fn small(admin: &Admin, session_key: &Arc<str>, wanted: u64) -> Result<u64, AdminError> {
    let params = json!({
        "sessionKey": &**session_key, "limit": wanted.clamp(1, MESSAGES), "offset": 0, "maxChars": CHARS, "maxBytes": WHOLE,
    });
    let Some(page) = found(admin.call("chat.history", params).await)? else {
        return Ok(0);
    };
    let is_whole =
        |message: &&Value| message.pointer("/__openclaw/truncated") != Some(&Value::Bool(true));
    let whole = messages(&page).iter().rev().take_while(is_whole);
    let first = whole.filter_map(number).last();
    let total = page.get("totalMessages").and_then(Value::as_u64);
    let small = total
        .zip(first)
        .map(|(total, first)| total.saturating_sub(first) + 1);
    Ok(small.unwrap_or(0))
}

/// What is said of a session; `None` of one that was deleted in between, or has a key of its own kind.
///
/// One that is only busy is to be asked again, as the instance says by when.
fn found(answer: Result<Value, AdminError>) -> Result<Option<Value>, AdminError> {
    match answer {
        Err(
            AdminError::Refused {
                retry_after: None, ..
            }
            | AdminError::Invalid { .. },
        ) => Ok(None),
        answer => answer.map(Some),
    }
}

/// The oldest come first.
fn messages(page: &Value) -> &[Value] {
    let messages = page.get("messages").and_then(Value::as_array);
    messages.map_or(&[], Vec::as_slice)
}

fn number(message: &Value) -> Option<u64> {
    message.pointer("/__openclaw/seq")?.as_u64()
}

fn size(page: &Value) -> usize {
    serde_json::to_vec(page).map_or(usize::MAX, |page| page.len())
}

// === impl Reading ===

impl Reading {
    /// Reads messages, and says whether what is before them is older.
    fn page(&mut self, session_key: &Arc<str>, messages: &[Value]) -> bool {
        for message in messages.iter().rev() {
            if let Some(number) = number(message) {
                self.pass(number);
            }
            let written = message.pointer("/__openclaw/recordTimestampMs");
            let written = written.and_then(Value::as_f64);
            if written.is_some_and(|written| written < self.from as f64) {
                return true;
            }
            if message.pointer("/__openclaw/reason") == Some(&Value::from("oversized")) {
                let id = message.pointer("/__openclaw/id").and_then(Value::as_str);
                self.large.extend(id.map(str::to_owned));
            } else {
                self.take(session_key, Some(message));
            }
        }
        false
    }

    /// The session begins here.
    fn begin(&mut self) {
        self.pass(0);
    }

    /// Goes back to a message.
    fn pass(&mut self, number: u64) {
        if self.number.is_some_and(|before| number + 1 < before) {
            self.hidden = Some(number + 1);
        }
        self.number = Some(number);
    }

    fn take(&mut self, session_key: &Arc<str>, message: Option<&Value>) {
        let answer = message.and_then(|message| Message::of_history(session_key, message));
        self.answers
            .extend(answer.filter(|answer| answer.written_ms >= self.from));
    }
}
