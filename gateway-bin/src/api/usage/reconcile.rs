//! The ledger beside what an instance says itself.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use tower_usage::TokenCounts;
use tower_usage::sqlite::{Group, GroupBy, LedgerError, Sum};
use utoipa::IntoParams;

use super::comparison::{ComparedSession, ComparedUser, Comparison, ShownTokens};
use super::query::{read, span};
use crate::api::{Api, ApiError, rfc3339};
use crate::clock;
use crate::instance::{Upstream, slot_name, slot_of};
use crate::observed::agent_of;
use crate::records::Span;

/// How long the instances may take to add up; they do so in the background. Proxies before us wait for a minute.
const PATIENCE: Duration = Duration::from_secs(45);

/// After how long what is there is answered, without those that are missing.
const ENOUGH: Duration = Duration::from_secs(15);

/// Most users of one answer, those that have used nothing among them.
const PAGE: usize = 500;

/// The code of an answer that comes too early.
pub(crate) const ADDS_UP: &str = "instance_adds_up";

/// Pause before it is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Sessions of one agent that the instance names at most. One has some kilobytes in its answer, of which 32 MiB come through
/// the administration channel; the sums are of all.
const SESSIONS: u64 = 500;

/// Agents that the instance is asked for at a time.
const AT_A_TIME: usize = 4;

const SECOND: Duration = Duration::from_secs(1);

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Compared {
    /// The first day, in UTC; 30 days ago unless it is said.
    #[param(format = Date)]
    from: Option<String>,
    /// The last day, in UTC; today unless it is said.
    #[param(format = Date)]
    to: Option<String>,
    /// A user id; everybody unless it is said.
    user: Option<Arc<str>>,
    /// `next` of the answer before.
    after: Option<Arc<str>>,
}

/// What one party says was used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Used {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
}

/// What the instance says of an agent.
#[derive(Debug, Default)]
struct Said {
    all: Used,
    sessions: BTreeMap<String, Used>,
    /// There are more sessions.
    is_cut: bool,
}

/// Agents and the instances that they are on, by whoever pays for what they use.
type Subjects = BTreeMap<Arc<str>, Vec<(Arc<Upstream>, String)>>;

/// What both say of one user.
#[derive(Debug)]
struct Both {
    ledger: Used,
    instance: Said,
}

/// The tokens of each user as this gateway's ledger has them, and as the instances do.
///
/// Instances take seconds for each user. What was not compared in time comes with the next page.
#[utoipa::path(
    get,
    path = "/api/admin/usage/reconcile",
    params(Compared),
    responses(
        (status = OK, body = Comparison, description = "who has used something"),
        (status = SERVICE_UNAVAILABLE, description = "an instance does not answer, or still adds up: ask again in a moment"),
    )
)]
pub(in crate::api) async fn reconcile(
    State(api): State<Api>,
    compared: Result<Query<Compared>, QueryRejection>,
) -> Result<Json<Comparison>, ApiError> {
    let begun = Instant::now();
    let compared = read(compared)?;
    let span = span(compared.from.as_deref(), compared.to.as_deref())?;
    let span = whole_days(until_tomorrow(span));
    let mut ledger = BTreeMap::new();
    let by_user = api
        .records
        .totals(compared.user.clone(), span, GroupBy::User);
    for row in by_user.await.map_err(|error| unreadable(&error))? {
        if let Group::User(user) = row.group {
            ledger.insert(user, Used::of_sum(&row.sum));
        }
    }
    let upstreams = api.environments.upstreams().all();
    let mut subjects = Subjects::new();
    for upstream in &upstreams {
        let added = add_subjects(&api, upstream, &mut subjects);
        let added = timeout_at(begun + PATIENCE, added).await;
        added.unwrap_or_else(|_| Err(still_adds_up()))?;
    }
    for user in ledger.keys() {
        subjects.entry(Arc::clone(user)).or_default();
    }
    if let Some(user) = &compared.user {
        subjects.retain(|subject, _| subject == user);
    }
    skip(&mut subjects, compared.after.as_deref());
    let end = subjects.last_key_value().map(|(user, _)| Arc::clone(user));
    let (api, ledger) = (&api, &ledger);
    // A few at a time: its answers are never here all at once.
    let rows = stream::iter(subjects.into_iter().take(PAGE));
    let rows = rows.map(|(user, agents)| async move {
        let mut instance = Said::default();
        for (upstream, agent) in &agents {
            instance.add(said(upstream, span, agent).await?);
        }
        let agents: Vec<_> = agents.iter().map(|(_, agent)| &**agent).collect();
        let ledger = ledger.get(&user).copied().unwrap_or_default();
        let row = compared_row(api, span, &user, &agents, Both { ledger, instance }).await?;
        Ok::<_, ApiError>((user, row))
    });
    let (users, last) = page(rows.buffered(AT_A_TIME), begun).await?;
    let users: Vec<ComparedUser> = users.into_iter().flatten().collect();
    let names = upstreams.iter().map(|upstream| upstream.name.to_string());
    Ok(Json(Comparison {
        from: rfc3339(span.from),
        to: rfc3339(span.to),
        instances: names.collect(),
        differing: users.iter().filter(|user| user.differs).count(),
        users,
        next: last.filter(|last| Some(last) != end.as_ref()),
    }))
}

/// Leaves out who was on the pages before.
fn skip(subjects: &mut Subjects, after: Option<&str>) {
    subjects.retain(|subject, _| after.is_none_or(|after| **subject > *after));
}

/// What there is in time of rows that come in their order, and whose is the last; all of them where they are fast enough.
async fn page<T>(
    rows: impl Stream<Item = Result<(Arc<str>, T), ApiError>>,
    begun: Instant,
) -> Result<(Vec<T>, Option<Arc<str>>), ApiError> {
    let mut rows = pin!(rows);
    let (mut page, mut last) = (Vec::new(), None);
    loop {
        let until = match last {
            None => begun + PATIENCE,
            Some(_) => begun + ENOUGH,
        };
        match (timeout_at(until, rows.next()).await, &last) {
            (Ok(Some(row)), _) => {
                let (user, row) = row?;
                page.push(row);
                last = Some(user);
            }
            (Err(_), None) => return Err(still_adds_up()),
            (Ok(None) | Err(_), _) => return Ok((page, last)),
        }
    }
}

fn still_adds_up() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        ADDS_UP,
        "the instance still adds up what its sessions used; ask again in a moment",
    )
}

/// The agents of an instance, by whoever pays for what they use.
async fn add_subjects(
    api: &Api,
    upstream: &Arc<Upstream>,
    subjects: &mut Subjects,
) -> Result<(), ApiError> {
    let owners = api.store.owners(&upstream.name).await;
    let owners = owners.map_err(|error| ApiError::unavailable("store", &error))?;
    let list = upstream.admin.call("agents.list", json!({}));
    let list = list
        .await
        .map_err(|error| ApiError::unavailable("instance", &error))?;
    let listed = list.get("agents").and_then(Value::as_array);
    let listed = listed
        .into_iter()
        .flatten()
        .filter_map(|agent| agent.get("id")?.as_str().map(str::to_owned));
    let mut agents: BTreeSet<String> = listed.collect();
    agents.extend(owners.iter().map(|(slot, _)| slot_name(*slot)));
    let owners: BTreeMap<u32, &Arc<str>> =
        owners.iter().map(|(slot, user)| (*slot, user)).collect();
    let own: Arc<str> = format!("instance:{}", upstream.name).into();
    for agent in agents {
        let of_slot = || slot_of(&agent).and_then(|slot| owners.get(&slot).copied());
        let owner = upstream.owner.as_ref().or_else(of_slot);
        let subject = Arc::clone(owner.unwrap_or(&own));
        let of_subject = subjects.entry(subject).or_default();
        of_subject.push((Arc::clone(upstream), agent));
    }
    Ok(())
}

/// What is answered of a user; `None` if nothing was used.
async fn compared_row(
    api: &Api,
    span: Span,
    user: &Arc<str>,
    agents: &[&str],
    both: Both,
) -> Result<Option<ComparedUser>, ApiError> {
    if both.ledger == Used::default() && both.instance.all == Used::default() {
        return Ok(None);
    }
    let mut sessions = Vec::new();
    if both.differs() {
        let mut by_session: BTreeMap<String, (Used, Used)> = BTreeMap::new();
        for (session, used) in &both.instance.sessions {
            by_session.entry(session.clone()).or_default().1 = *used;
        }
        let totals = api
            .records
            .totals(Some(Arc::clone(user)), span, GroupBy::Session);
        for row in totals.await.map_err(|error| unreadable(&error))? {
            let Group::Session(Some(session)) = row.group else {
                continue;
            };
            // What the instance did not get to name is nothing that it lacks.
            if by_session.contains_key(&*session) || !both.instance.is_cut {
                by_session.entry(session.to_string()).or_default().0 = Used::of_sum(&row.sum);
            }
        }
        let differing = by_session.iter().filter(|(_, (ledger, of))| ledger != of);
        sessions.extend(
            differing.map(|(session, (ledger, instance))| ComparedSession {
                session_key: session.clone(),
                agent: agent_of(session).map(str::to_owned),
                ledger: ledger.shown(),
                instance: instance.shown(),
            }),
        );
    }
    let agent = agents.first().filter(|agent| slot_of(agent).is_some());
    Ok(Some(ComparedUser {
        user: Arc::clone(user),
        agent: agent.map(ToString::to_string),
        ledger: both.ledger.shown(),
        instance: both.instance.all.shown(),
        differs: both.differs(),
        sessions,
    }))
}

fn unreadable(error: &LedgerError) -> ApiError {
    ApiError::unavailable("ledger", error)
}

/// The instance looks at each day, and nothing was used on those that come.
fn until_tomorrow(Span { from, to }: Span) -> Span {
    let to = to.min(clock::now() + DAY);
    Span {
        from: from.min(to),
        to,
    }
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

/// What the instance says of an agent, once it has added up. Whoever asks has a limit for it.
async fn said(upstream: &Upstream, span: Span, agent: &str) -> Result<Said, ApiError> {
    let last = span.to.checked_sub(SECOND).unwrap_or(span.from);
    // OpenClaw keeps an answer for half a minute (`USAGE_CACHE_TTL_MS`), for whoever asks the very same.
    let limit = SESSIONS + u64::try_from(clock::now_ms() / 60 % 500).unwrap_or(0);
    let params = json!({
        "agentId": agent, "mode": "utc", "groupBy": "instance", "limit": limit,
        "startDate": day(span.from), "endDate": day(last),
    });
    loop {
        let answer = upstream.admin.call("sessions.usage", params.clone());
        let answer = answer
            .await
            .map_err(|error| ApiError::unavailable("instance", &error))?;
        let status = answer
            .pointer("/cacheStatus/status")
            .and_then(Value::as_str);
        if status.is_none_or(|status| status == "fresh") {
            return Ok(Said::of(&answer, limit));
        }
        sleep(AGAIN).await;
    }
}

fn day(at: SystemTime) -> String {
    rfc3339(at).chars().take(10).collect()
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

    fn shown(&self) -> ShownTokens {
        let mut tokens = TokenCounts::default();
        tokens.input = Some(self.input);
        tokens.output = Some(self.output);
        tokens.cache_read = Some(self.cache_read);
        tokens.cache_write = Some(self.cache_write);
        ShownTokens {
            input_tokens: self.input,
            output_tokens: self.output,
            cache_read_tokens: self.cache_read,
            cache_write_tokens: self.cache_write,
            total_tokens: tokens.total(),
        }
    }
}

// === impl Said ===

impl Said {
    /// What is in an answer to which `limit` sessions were asked for.
    fn of(answer: &Value, limit: u64) -> Self {
        let sessions = answer.get("sessions").and_then(Value::as_array);
        let sessions = sessions.map_or(&[][..], Vec::as_slice);
        let used = |session: &Value| {
            let key = session.get("key")?.as_str()?;
            let used = Used::of_instance(session.get("usage")?);
            (used != Used::default()).then(|| (key.to_owned(), used))
        };
        Self {
            all: answer
                .get("totals")
                .map(Used::of_instance)
                .unwrap_or_default(),
            sessions: sessions.iter().filter_map(used).collect(),
            is_cut: u64::try_from(sessions.len()).is_ok_and(|len| len >= limit),
        }
    }

    fn add(&mut self, more: Self) {
        self.all.add(more.all);
        self.sessions.extend(more.sessions);
        self.is_cut |= more.is_cut;
    }
}

// === impl Both ===

impl Both {
    fn differs(&self) -> bool {
        self.ledger != self.instance.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of which each takes so many seconds more.
    async fn of(seconds: &[u64]) -> Result<(Vec<usize>, Option<Arc<str>>), ApiError> {
        let begun = Instant::now();
        let rows = stream::iter(seconds.iter().enumerate()).then(|(n, seconds)| async move {
            sleep(Duration::from_secs(*seconds)).await;
            Ok((Arc::from(format!("user-{n}")), n))
        });
        page(rows, begun).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_has_who_comes_in_time_and_at_least_one() {
        let name = |name: &str| Some(Arc::from(name));
        assert_eq!(of(&[]).await.unwrap(), (vec![], None));
        assert_eq!(
            of(&[5, 5, 4]).await.unwrap(),
            (vec![0, 1, 2], name("user-2"))
        );
        assert_eq!(of(&[5, 11, 1]).await.unwrap(), (vec![0], name("user-0")));
        assert_eq!(of(&[40, 1]).await.unwrap(), (vec![0], name("user-0")));
        assert_eq!(of(&[46]).await.unwrap_err().code(), ADDS_UP);
        let rows = stream::iter([
            Ok((Arc::from("a"), 0)),
            Err(ApiError::bad_request("it does not answer")),
        ]);
        assert!(page(rows, Instant::now()).await.is_err());
    }

    #[test]
    fn what_comes_after_somebody_is_without_them() {
        let mut subjects = Subjects::new();
        for user in ["a", "b", "c"] {
            subjects.insert(user.into(), Vec::new());
        }
        skip(&mut subjects, Some("b"));
        assert_eq!(subjects.into_keys().collect::<Vec<_>>(), ["c".into()]);
    }

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
        let all = until_tomorrow(Span {
            from: at(1 << 40),
            to: at(1 << 41),
        });
        assert!(all.from == all.to && all.to < at(1 << 30));
    }

    #[test]
    fn an_agents_sum_is_of_all_its_sessions_though_not_all_are_named() {
        let answer = json!({
            "totals": {"input": 50, "output": 20, "cacheRead": 1, "cacheWrite": 4, "totalTokens": 75},
            "sessions": [
                {"key": "agent:slot-001:main", "usage": {"input": 5, "output": 2, "cacheRead": 1, "cacheWrite": 4}},
                {"key": "agent:slot-001:other", "usage": null},
                {"key": "agent:slot-001:empty", "usage": {"input": 0, "output": 0}},
            ],
        });
        let said = Said::of(&answer, 4);
        let named: Vec<_> = said.sessions.keys().collect();
        assert_eq!(named, ["agent:slot-001:main"]);
        assert_eq!(said.all.shown().total_tokens, 75);
        assert!(!said.is_cut && Said::of(&answer, 3).is_cut);
        let mut both = Said::default();
        both.add(said);
        both.add(Said::of(&answer, 3));
        assert_eq!((both.all.input, both.is_cut), (100, true));
    }
}
