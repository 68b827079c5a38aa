//! Every method, with what is hers in every field and every spelling.

use std::collections::{BTreeSet, HashMap};

use gateway::protocol::{Answer, Method, Pool, ROWS, find_method};
use gateway_tests::{error::Result, openclaw::operator};
use serde_json::Value;

use crate::people::{Hers, Two};

/// Frames that are sent before their answers are read: fewer than a socket may have in flight.
const AT_ONCE: usize = 48;

/// What is expected of the answer to a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// A refusal.
    Refusal,
    /// A refusal because of a slash command.
    Command,
    /// Exactly this payload.
    Fixed(&'static str),
    /// Whatever has nothing of hers in it.
    Own,
}

/// One frame.
pub(crate) struct Attempt {
    pub(crate) method: String,
    /// As they are sent.
    pub(crate) params: String,
    pub(crate) expect: Expect,
}

pub(crate) async fn tried(two: &mut Two) -> Result<()> {
    let scopes = ["operator.admin", "operator.read", "operator.write"];
    let (_admin, hello) = operator(&two.kit.openclaw, &two.kit.openclaw_password, &scopes).await?;
    let advertised = hello["features"]["methods"].as_array();
    let mut names: BTreeSet<&str> = ROWS.iter().map(|row| row.name).collect();
    names.extend(advertised.into_iter().flatten().filter_map(Value::as_str));
    names.extend([
        "",
        "unknown.future",
        "Chat.send",
        "chat.send ",
        "chat\u{0}.send",
    ]);
    let mut attempts = Vec::new();
    for name in names {
        match find_method(name) {
            Some(method) => of_passing(method, &two.hers, &two.never, &mut attempts),
            None => of_refused(name, &two.hers, &two.never, &mut attempts),
        }
    }
    two.say(&format!("{} frames", attempts.len()));
    let sent = send(two, &attempts).await?;
    assert_eq!(sent, attempts.len());
    let quota = two.bob_himself.get("/api/quota").await?;
    // One run of his own.
    assert!(!quota.to_string().contains(r#""used":2,"#), "{quota}");
    two.nothing_was_heard();
    Ok(())
}

/// Sends all of them, and looks at each answer.
pub(crate) async fn send(two: &mut Two, attempts: &[Attempt]) -> Result<usize> {
    let mut number = 0;
    for some in attempts.chunks(AT_ONCE) {
        let mut waiting = HashMap::new();
        for attempt in some {
            number += 1;
            let id = format!("a{number}");
            let frame = format!(
                r#"{{"type":"req","id":"{id}","method":{},"params":{}}}"#,
                Value::from(attempt.method.as_str()),
                attempt.params
            );
            two.bob.ws.send(frame).await?;
            waiting.insert(id, attempt);
        }
        while !waiting.is_empty() {
            let answer = two.bob.ws.find(|frame| frame["type"] == "res").await?;
            let id = answer["id"].as_str().unwrap_or_default();
            let attempt = waiting.remove(id).expect("an answer to one of the frames");
            let said = || format!("{} {}: {answer}", attempt.method, attempt.params);
            match attempt.expect {
                Expect::Refusal => assert_eq!(answer["ok"], false, "{}", said()),
                Expect::Fixed(payload) => {
                    let payload: Value = serde_json::from_str(payload).unwrap_or_default();
                    assert_eq!(answer["payload"], payload, "{}", said());
                }
                Expect::Command => {
                    let code = &answer["error"]["details"]["code"];
                    assert_eq!(*code, "COMMAND_NOT_AVAILABLE", "{}", said());
                }
                Expect::Own => {}
            }
            let text = answer.to_string();
            for hers in [&two.hers.canary, &two.hers.session, &two.hers.token] {
                assert!(!text.contains(hers.as_str()), "{}", said());
            }
        }
    }
    Ok(number)
}

/// Names of fields, and what of hers goes there.
fn fields(hers: &Hers) -> Vec<(&'static str, &str)> {
    let Hers {
        canary,
        agent,
        session,
        session_id,
        other,
        run,
        token,
    } = hers;
    vec![
        ("sessionKey", session),
        ("key", session),
        ("agentId", agent),
        ("sessionId", session_id),
        ("runId", run),
        ("spawnedBy", session),
        ("parentSessionKey", session),
        ("forkFrom", other),
        ("sourceSessionKey", other),
        ("targetSessionKey", session),
        ("idempotencyKey", run),
        ("expectedSessionId", session_id),
        ("shortId", session_id),
        ("messageId", run),
        ("id", session_id),
        ("profileId", canary),
        ("userId", canary),
        ("user", canary),
        ("email", canary),
        ("name", agent),
        ("search", canary),
        ("query", canary),
        ("label", canary),
        ("path", canary),
        ("workspaceDir", canary),
        ("authProfileId", canary),
        ("to", session),
        ("token", token),
    ]
}

/// One field in every spelling.
fn spellings(field: &str, value: &str) -> Vec<String> {
    let escaped: String = value
        .chars()
        .map(|c| format!("\\u{:04x}", u32::from(c)))
        .collect();
    let mut letters = field.chars();
    let first = letters.next().unwrap_or_default();
    let rest = letters.as_str();
    let named = format!("\\u{:04x}{rest}", u32::from(first));
    let capital = first.to_ascii_uppercase();
    let lower = field.to_ascii_lowercase();
    let snake: String = field
        .chars()
        .flat_map(|c| {
            let mark = c.is_ascii_uppercase().then_some('_');
            mark.into_iter().chain([c.to_ascii_lowercase()])
        })
        .collect();
    let upper = value.to_uppercase();
    let mut spellings = vec![
        format!(r#""{field}":"{value}""#),
        format!(r#""{field}":"{escaped}""#),
        format!(r#""{named}":"{value}""#),
        format!(r#""{field}":"main","{field}":"{value}""#),
        format!(r#""{field}":"{value}","{field}":"main""#),
        format!(r#""{field}":"main","{named}":"{value}""#),
        format!(r#""{capital}{rest}":"{value}""#),
        format!(r#""{field}":" {value}""#),
        format!(r#""{field}":"{value}\u0000""#),
        format!(r#""{field}":["{value}"]"#),
        format!(r#""{field}":{{"key":"{value}"}}"#),
        format!(r#""{field}":{{"{field}":"{value}"}}"#),
        format!(r#""params":{{"{field}":"{value}"}}"#),
        format!(r#""workContext":{{"{field}":"{value}"}}"#),
        format!(r#""attachments":[{{"{field}":"{value}"}}]"#),
        format!(r#""{field}s":["{value}"]"#),
    ];
    if lower != field {
        spellings.push(format!(r#""{lower}":"{value}""#));
        spellings.push(format!(r#""{snake}":"{value}""#));
    }
    if upper != value {
        spellings.push(format!(r#""{field}":"{upper}""#));
    }
    spellings
}

/// A method that nobody may: whatever is in it.
fn of_refused(name: &str, hers: &Hers, never: &str, attempts: &mut Vec<Attempt>) {
    let mut attempt = |params: String| {
        attempts.push(Attempt {
            method: name.to_owned(),
            params,
            expect: Expect::Refusal,
        });
    };
    let row = ROWS.iter().find(|row| row.name == name);
    assert!(
        !row.is_some_and(|row| matches!(row.pool, Pool::Pass(_))),
        "{name}"
    );
    attempt("{}".to_owned());
    let session = &hers.session;
    attempt(format!(
        r#"{{"sessionKey":"{session}","key":"{session}","agentId":"{}","message":"{never}","text":"{never}","idempotencyKey":"{never}"}}"#,
        hers.agent
    ));
    for (field, value) in fields(hers) {
        attempt(format!(r#"{{"{field}":"{value}"}}"#));
    }
    for spelling in spellings("sessionKey", session) {
        attempt(format!(r#"{{{spelling},"message":"{never}"}}"#));
    }
    attempt(format!(r#"["{session}"]"#));
    attempt(format!(r#""{session}""#));
}

/// A method that people may: with what is hers it is refused, or answers with what is one's own.
fn of_passing(method: &'static Method, hers: &Hers, never: &str, attempts: &mut Vec<Attempt>) {
    let session = &hers.session;
    // What makes a frame whole where it is needed: nothing else may be why it is refused.
    let whole = match method.name {
        "chat.send" => format!(r#","message":"{never}""#),
        "sessions.create" => r#","label":"stolen""#.to_owned(),
        "sessions.patch" => r#","icon":"stolen""#.to_owned(),
        "sessions.delete" => r#","archivedOnly":true"#.to_owned(),
        "agent.wait" => r#","timeoutMs":1"#.to_owned(),
        _ => String::new(),
    };
    for (field, value) in fields(hers) {
        for (n, spelling) in spellings(field, value).into_iter().enumerate() {
            // Another label in the place of the one that makes the frame whole, and what is another key than hers, and so one of
            // his own.
            let is_other = spelling.contains(&format!(r#"":" {value}"#))
                || spelling.contains(r"\u0000")
                || spelling.contains(&value.to_uppercase());
            if (field == "label" && !whole.is_empty())
                || (method.name == "chat.send" && field == "idempotencyKey" && is_other)
            {
                continue;
            }
            let key = match (method.name, field) {
                ("chat.send", "idempotencyKey") => String::new(),
                ("chat.send", _) => format!(r#","idempotencyKey":"{never}{field}{n}""#),
                _ => String::new(),
            };
            attempts.push(Attempt {
                method: method.name.to_owned(),
                params: format!("{{{spelling}{whole}{key}}}"),
                expect: match (method.answer, field) {
                    (Answer::Fixed(payload), _) => Expect::Fixed(payload),
                    (_, "idempotencyKey") if method.name == "sessions.create" => Expect::Own,
                    // What is looked for among one's own, and what is nobody's.
                    (_, "shortId" | "messageId" | "search" | "label" | "expectedSessionId") => {
                        Expect::Own
                    }
                    _ => Expect::Refusal,
                },
            });
        }
    }
    if let Answer::Fixed(_) = method.answer {
        return;
    }
    let agent = &hers.agent;
    let mut refused = |member: &str| {
        let key = match method.name {
            "chat.send" => format!(r#","idempotencyKey":"{never}""#),
            _ => String::new(),
        };
        attempts.push(Attempt {
            method: method.name.to_owned(),
            params: format!("{{{member}{whole}{key}}}"),
            expect: Expect::Refusal,
        });
    };
    for field in ["sessionKey", "key"] {
        for value in [
            "global".to_owned(),
            "unknown".to_owned(),
            format!("agent:{agent}"),
            format!("agent:{agent}:"),
            format!("agent%3A{agent}%3Amain"),
            format!("agent:x:{session}"),
            format!("user:{}", hers.canary),
        ] {
            refused(&format!(r#""{field}":"{value}""#));
        }
        refused(&format!(r#""{field}":"main","agentId":"{agent}""#));
        refused(&format!(
            r#""{field}":"main","sessionId":"{}""#,
            hers.session_id
        ));
        refused(&format!(r#""{field}":"main","runId":"{}""#, hers.run));
        refused(&format!(r#""{field}":"{session}","runId":"{}""#, hers.run));
    }
    refused(r#""sessionKey":"main","workspaceDir":"/""#);
}
