//! The ledger beside what an instance says itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower_usage::TokenCounts;
use tower_usage::sqlite::{Group, GroupBy, Sum};

use super::query::{read, span};
use crate::api::{Api, ApiError, rfc3339};
use crate::clock;
use crate::instance::{Upstream, slot_name, slot_of};
use crate::observed::agent_of;
use crate::records::Span;

/// How long an instance may take to add up; it does so in the background.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause before it is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Sessions that are compared at most.
const SESSIONS: u64 = 100_000;

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Compared {
    from: Option<String>,
    to: Option<String>,
    user: Option<Arc<str>>,
}

/// What one party says was used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Used {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
}

/// What both say of one user.
#[derive(Debug, Default)]
struct Both {
    ledger: Used,
    instance: Used,
    /// By session; of the ledger's what is known to belong to one.
    sessions: BTreeMap<String, (Used, Used)>,
}

/// `GET /api/admin/usage/reconcile?from&to&user`: the tokens of each user as this gateway's ledger has them, and as the
/// instance does. Days are those of UTC.
pub(in crate::api) async fn reconcile(
    State(api): State<Api>,
    compared: Result<Query<Compared>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let compared = read(compared)?;
    let span = whole_days(span(compared.from.as_deref(), compared.to.as_deref())?);
    let unavailable = |error: crate::store::StoreError| ApiError::unavailable("store", &error);
    let upstreams = api.environments.upstreams().all();
    let mut agents: BTreeMap<Arc<str>, String> = BTreeMap::new();
    let mut all: BTreeMap<Arc<str>, Both> = BTreeMap::new();
    for upstream in &upstreams {
        let said = said(upstream, span).await?;
        let owners = api.store.owners(&upstream.name).await;
        let owners: BTreeMap<u32, Arc<str>> = owners.map_err(unavailable)?.into_iter().collect();
        let own: Arc<str> = format!("instance:{}", upstream.name).into();
        for (session, agent, used) in sessions(&said) {
            let owner = slot_of(agent).and_then(|slot| owners.get(&slot));
            let both = all.entry(Arc::clone(owner.unwrap_or(&own))).or_default();
            both.instance.add(used);
            let (_, of_session) = both.sessions.entry(session.to_owned()).or_default();
            of_session.add(used);
        }
        let of_owners = owners.into_iter();
        agents.extend(of_owners.map(|(slot, user)| (user, slot_name(slot))));
    }
    let records = &api.records;
    let unreadable = |error| ApiError::unavailable("ledger", &error);
    let by_user = records.totals(compared.user.clone(), span, GroupBy::User);
    for row in by_user.await.map_err(unreadable)? {
        if let Group::User(user) = row.group {
            all.entry(user).or_default().ledger = Used::of_sum(&row.sum);
        }
    }
    if let Some(user) = &compared.user {
        all.retain(|subject, _| subject == user);
    }
    let mut rows = Vec::new();
    for (user, mut both) in all {
        let mut sessions = Vec::new();
        if both.differs() {
            let whose = Some(Arc::clone(&user));
            let by_session = records.totals(whose, span, GroupBy::Session);
            for row in by_session.await.map_err(unreadable)? {
                if let Group::Session(Some(session)) = row.group {
                    let (ledger, _) = both.sessions.entry(session.to_string()).or_default();
                    *ledger = Used::of_sum(&row.sum);
                }
            }
            let differing = both
                .sessions
                .iter()
                .filter(|(_, (ledger, of))| ledger != of);
            sessions.extend(differing.map(|(session, (ledger, instance))| {
                json!({
                    "sessionKey": session, "agent": agent_of(session), "ledger": ledger.shown(),
                    "instance": instance.shown(),
                })
            }));
        }
        rows.push(json!({
            "user": user,
            "agent": agents.get(&user),
            "ledger": both.ledger.shown(),
            "instance": both.instance.shown(),
            "differs": both.differs(),
            "sessions": sessions,
        }));
    }
    let names: Vec<_> = upstreams.iter().map(|upstream| &*upstream.name).collect();
    let differing = rows.iter().filter(|row| row["differs"] == true).count();
    Ok(Json(json!({
        "from": rfc3339(span.from), "to": rfc3339(span.to), "instances": names,
        "differing": differing, "users": rows,
    })))
}

/// The instance knows days only.
fn whole_days(Span { from, to }: Span) -> Span {
    let begin = |at: SystemTime| {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let into_day = Duration::from_secs(since.as_secs() % DAY.as_secs());
        UNIX_EPOCH
            + since.saturating_sub(into_day + Duration::from_nanos(since.subsec_nanos().into()))
    };
    let last = to.checked_sub(Duration::from_millis(1)).unwrap_or(to);
    Span {
        from: begin(from),
        to: begin(last) + DAY,
    }
}

/// What the instance says, once it has added up.
async fn said(upstream: &Upstream, span: Span) -> Result<Value, ApiError> {
    let last = span.to.checked_sub(SECOND).unwrap_or(span.from);
    // OpenClaw keeps an answer for half a minute (`USAGE_CACHE_TTL_MS`), for whoever asks the very same.
    let limit = SESSIONS + u64::try_from(clock::now_ms() % 60_000).unwrap_or(0);
    let params = json!({
        "agentScope": "all", "mode": "utc", "groupBy": "instance", "limit": limit,
        "startDate": day(span.from), "endDate": day(last),
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = upstream.admin.call("sessions.usage", params.clone());
        let said = said
            .await
            .map_err(|error| ApiError::unavailable("instance", &error))?;
        let status = said.pointer("/cacheStatus/status").and_then(Value::as_str);
        if status.is_none_or(|status| status == "fresh") {
            return Ok(said);
        }
        if Instant::now() > deadline {
            return Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "instance_adds_up",
                "the instance still adds up what its sessions used; ask again in a moment",
            ));
        }
        sleep(AGAIN).await;
    }
}

fn day(at: SystemTime) -> String {
    rfc3339(at).chars().take(10).collect()
}

/// The sessions of an instance's answer, their agents, and what they used.
fn sessions(said: &Value) -> impl Iterator<Item = (&str, &str, Used)> {
    let sessions = said.get("sessions").and_then(Value::as_array);
    sessions.into_iter().flatten().filter_map(|session| {
        let key = session.get("key")?.as_str()?;
        let agent = session.get("agentId").and_then(Value::as_str);
        let agent = agent.or_else(|| agent_of(key)).unwrap_or_default();
        let used = Used::of_instance(session.get("usage")?);
        (used != Used::default()).then_some((key, agent, used))
    })
}

// === impl Used ===

impl Used {
    fn of_sum(sum: &Sum) -> Self {
        Self {
            input: sum.input_tokens,
            output: sum.output_tokens,
            cache_read: sum.cache_read_tokens,
            cache_write: sum.cache_write_tokens,
        }
    }

    fn of_instance(usage: &Value) -> Self {
        let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
        Self {
            input: count("input"),
            output: count("output"),
            cache_read: count("cacheRead"),
            cache_write: count("cacheWrite"),
        }
    }

    fn add(&mut self, more: Self) {
        for (own, more) in [
            (&mut self.input, more.input),
            (&mut self.output, more.output),
            (&mut self.cache_read, more.cache_read),
            (&mut self.cache_write, more.cache_write),
        ] {
            *own = own.saturating_add(more);
        }
    }

    fn shown(&self) -> Value {
        let mut tokens = TokenCounts::default();
        tokens.input = Some(self.input);
        tokens.output = Some(self.output);
        tokens.cache_read = Some(self.cache_read);
        tokens.cache_write = Some(self.cache_write);
        json!({
            "inputTokens": self.input, "outputTokens": self.output, "cacheReadTokens": self.cache_read,
            "cacheWriteTokens": self.cache_write, "totalTokens": tokens.total(),
        })
    }
}

// === impl Both ===

impl Both {
    fn differs(&self) -> bool {
        self.ledger != self.instance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole() {
        let at = |hours: u64| UNIX_EPOCH + Duration::from_secs(hours * 3_600);
        for (from, to, whole) in [(24, 48, (24, 48)), (30, 49, (24, 72)), (0, 1, (0, 24))] {
            let span = whole_days(Span {
                from: at(from),
                to: at(to),
            });
            assert_eq!((span.from, span.to), (at(whole.0), at(whole.1)));
        }
        let span = whole_days(Span {
            from: at(1) + Duration::from_nanos(7),
            to: at(2),
        });
        assert_eq!(
            (span.from, day(span.from)),
            (UNIX_EPOCH, "1970-01-01".to_owned())
        );
    }

    #[test]
    fn an_instances_sessions_are_read_with_their_agents() {
        let said = json!({"sessions": [
            {"key": "agent:slot-001:main", "agentId": "slot-001", "usage": {"input": 5, "output": 2, "cacheRead": 1,
                "cacheWrite": 4, "totalTokens": 12}},
            {"key": "agent:main:main", "usage": {"input": 7}},
            {"key": "agent:slot-002:main", "agentId": "slot-002", "usage": null},
            {"key": "agent:slot-003:main", "agentId": "slot-003", "usage": {"input": 0, "output": 0}},
        ]});
        let read: Vec<_> = sessions(&said)
            .map(|(key, agent, used)| (key, agent, used.shown()["totalTokens"].clone()))
            .collect();
        assert_eq!(
            read,
            [
                ("agent:slot-001:main", "slot-001", json!(12)),
                ("agent:main:main", "main", json!(7)),
            ]
        );
    }
}
