//! The provider's log, the ledger, the quota, and every route that tells of usage, side by side.

use std::collections::BTreeMap;

use ::http::StatusCode;
use gateway_tests::{
    error::Result,
    ledger::{self, Recorded, price, record_of},
    person::Person,
    provider::{Api, ModelCall, Tokens},
};
use serde_json::{Value, json};

use crate::{
    csv,
    world::{Somebody, World},
};

/// Few enough that somebody has many pages.
const PAGE: usize = 4;

/// What the records of somebody come to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Sum {
    pub(crate) runs: u64,
    pub(crate) tokens: Tokens,
    pub(crate) total: u64,
    pub(crate) nano_usd: u64,
}

/// A record as it is told by a route, by its id.
type Told = BTreeMap<String, Sum>;

/// Everything that is known of somebody agrees, administrators see all of it, and `other` none. Answers what it comes to.
pub(crate) async fn balance(
    world: &World,
    somebody: &Somebody,
    other: &Somebody,
    runs: u64,
) -> Result<Sum> {
    let calls = world.calls(somebody).await?;
    let records = ledger::settled(world.dir(), &somebody.name, calls.len()).await?;
    // Answers that somebody has left are read on.
    let calls = world.calls(somebody).await?;
    compare(world.api, &calls, &records);
    let sum = Sum::of(&records);
    assert_eq!(sum.runs, runs, "{records:#?}");

    let person = &somebody.person;
    let quota = person.get("/api/quota").await?;
    for (dimension, used) in [
        ("tokens", json!(sum.total)),
        ("calls", json!(sum.runs)),
        ("cost", json!(dollars(sum.nano_usd))),
    ] {
        let limits = quota["limits"].as_array().into_iter().flatten();
        let mut limits = limits.filter(|limit| limit["dimension"] == dimension);
        let limit = limits.next().expect("a limit");
        assert_eq!(limit["used"], used, "{limit}");
        assert!(
            limit["reserved"] == 0 || limit["reserved"] == "0.00",
            "{limit}"
        );
    }

    let admin = Person::sign_in(&world.kit, "admin", &world.gateway).await?;
    let told: Told = records
        .iter()
        .map(|record| (record.id.clone(), Sum::of([record])))
        .collect();
    let own = (person, "/api/usage", String::new());
    let all = (
        &admin,
        "/api/admin/usage",
        format!("&user={}", somebody.name),
    );
    for (who, route, user) in [own, all] {
        for group in ["day", "model", "session"] {
            let usage = who.get(&format!("{route}?group_by={group}{user}")).await?;
            assert_eq!(Sum::of_json(&usage["total"]), sum, "{route} {usage}");
            let groups = usage["groups"].as_array().into_iter().flatten();
            assert_eq!(groups.map(Sum::of_json).sum::<Sum>(), sum, "{usage}");
        }
        assert_eq!(pages(who, route, &user).await?, told, "{route}");
        let export = format!("{route}/export?format=");
        let lines = who.fetch(&format!("{export}jsonl{user}")).await?.text();
        assert_eq!(of_lines(&lines), told, "{route}");
        let table = who.fetch(&format!("{export}csv{user}")).await?.text();
        assert_eq!(of_table(&table), told, "{route}");
    }
    let by_user = admin.get("/api/admin/usage?group_by=user").await?;
    let mut groups = by_user["groups"].as_array().into_iter().flatten();
    let group = groups.find(|group| group["user"] == somebody.name);
    assert_eq!(
        group.map(Sum::of_json).unwrap_or_default(),
        sum,
        "{by_user}"
    );

    is_not_shown_to(other, somebody, &told).await?;
    Ok(sum)
}

async fn is_not_shown_to(other: &Somebody, somebody: &Somebody, told: &Told) -> Result<()> {
    let seen = pages(&other.person, "/api/usage", "").await?;
    assert!(!seen.keys().any(|id| told.contains_key(id)));
    let user = format!("user={}", somebody.name);
    for (path, status) in [
        ("/api/usage?", StatusCode::BAD_REQUEST),
        ("/api/usage/records?", StatusCode::BAD_REQUEST),
        ("/api/usage/export?format=csv&", StatusCode::BAD_REQUEST),
        ("/api/admin/usage?", StatusCode::FORBIDDEN),
        ("/api/admin/usage/records?", StatusCode::FORBIDDEN),
        ("/api/admin/usage/export?format=csv&", StatusCode::FORBIDDEN),
    ] {
        let answer = other.person.fetch(&format!("{path}{user}")).await?;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    // Who asks for the records after one of somebody else's sees their own, if any.
    for id in told.keys() {
        let path = format!("/api/usage/records?before={}", hyphenated(id));
        let records = other.person.get(&path).await?;
        assert!(!records.to_string().contains(&somebody.name), "{records}");
    }
    Ok(())
}

/// All records that a route tells, page by page, each of them once.
async fn pages(who: &Person, route: &str, user: &str) -> Result<Told> {
    let (mut told, mut before) = (Told::new(), String::new());
    loop {
        let path = format!("{route}/records?limit={PAGE}{user}{before}");
        let page = who.get(&path).await?;
        let records = page["records"].as_array().cloned().unwrap_or_default();
        assert!(records.len() <= PAGE, "{page}");
        for record in &records {
            let (id, sum) = of_record(record);
            assert_eq!(told.insert(id, sum), None, "twice: {record}");
        }
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return Ok(told),
        }
    }
}

fn of_lines(text: &str) -> Told {
    let records = text.lines().map(|line| {
        let record: Value = serde_json::from_str(line).expect("a record");
        of_record(&record)
    });
    let records: Vec<_> = records.collect();
    let told: Told = records.iter().cloned().collect();
    assert_eq!(told.len(), records.len(), "each record is told once");
    told
}

fn of_table(text: &str) -> Told {
    let mut rows = csv::rows(text).into_iter();
    let header = rows.next().expect("a header");
    let (mut told, mut count) = (Told::new(), 0);
    for row in rows {
        assert_eq!(row.len(), header.len(), "{row:?}");
        let record: serde_json::Map<_, _> = header
            .iter()
            .zip(&row)
            .map(|(name, cell)| {
                let value = match cell.parse::<u64>() {
                    Ok(count) => json!(count),
                    Err(_) => json!(cell),
                };
                (name.replace("costUsd", "cost"), value)
            })
            .collect();
        told.extend([of_record(&record.into())]);
        count += 1;
    }
    assert_eq!(told.len(), count, "each record is told once");
    told
}

fn of_record(record: &Value) -> (String, Sum) {
    let id = record["id"].as_str().unwrap_or_default().replace('-', "");
    let mut sum = Sum::of_json(record);
    sum.runs = u64::from(record["operation"] == "run");
    (id, sum)
}

/// Each call has one record, which says what the provider bills for it.
pub(crate) fn compare(api: Api, calls: &[ModelCall], records: &[Recorded]) {
    let model_calls = || records.iter().filter(|one| one.operation == "model_call");
    let mut recorded = Vec::new();
    let (mut exact, mut billed) = (Sum::default(), Tokens::default());
    for call in calls.iter().filter(|call| call.status == 200) {
        let record = record_of(call, records);
        let record = record.unwrap_or_else(|| panic!("no record of {call:?}: {records:#?}"));
        assert!(!recorded.contains(&&record.id), "{call:?} {record:?}");
        recorded.push(&record.id);
        assert_eq!(
            record.nano_usd,
            Some(price(record.tokens)),
            "{call:?} {record:?}"
        );
        assert_eq!(record.total, record.tokens.total(), "{record:?}");
        if !call.finished {
            broke_off(api, call, record);
            continue;
        }
        let mut tokens = call.tokens();
        if record.reasoning.is_none() {
            tokens.reasoning = 0;
        }
        assert_eq!(record.tokens, tokens, "{call:?} {record:?}");
        assert_eq!(record.source, "exact", "{call:?} {record:?}");
        let ends = if call.last_user.contains("given up") {
            "aborted"
        } else {
            "complete"
        };
        assert_eq!(record.outcome, ends, "{call:?} {record:?}");
        exact = [exact, Sum::of([record])].into_iter().sum();
        billed = [billed, tokens].into_iter().sum();
    }
    assert_eq!(exact.tokens, billed, "by class");
    assert_eq!(exact.nano_usd, price(billed), "to the billionth");

    let refused = calls.iter().filter(|call| call.status != 200).count();
    let unanswered: Vec<_> = model_calls()
        .filter(|record| !recorded.contains(&&record.id))
        .collect();
    assert_eq!(unanswered.len(), refused, "{unanswered:#?}");
    for record in unanswered {
        assert_eq!(record.outcome, "failed", "{record:?}");
        assert_eq!((record.total, record.nano_usd), (0, Some(0)), "{record:?}");
    }
}

/// What is not told is estimated; what Anthropic's API tells at the beginning is known.
fn broke_off(api: Api, call: &ModelCall, record: &Recorded) {
    assert_eq!(record.outcome, "failed", "{call:?} {record:?}");
    assert_eq!(record.source, "estimated", "{call:?} {record:?}");
    if api == Api::Messages {
        assert_eq!(
            record.tokens.input,
            call.tokens().input,
            "{call:?} {record:?}"
        );
    }
    assert!(
        record.tokens.input > 0 && record.tokens.output > 0,
        "{call:?} {record:?}"
    );
}

fn dollars(nanos: u64) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let cents = text.find('.').map_or(0, |dot| dot + 3);
    let trimmed = text.trim_end_matches('0');
    text[..trimmed.len().max(cents)].to_owned()
}

/// What `dollars` is made of.
fn nanos(dollars: &str) -> u64 {
    let (whole, part) = dollars.split_once('.').expect("dollars and cents");
    format!("{whole}{part:0<9}").parse().expect("digits")
}

fn hyphenated(id: &str) -> String {
    let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
    parts.join("-")
}

// === impl Sum ===

impl Sum {
    pub(crate) fn of<'a>(records: impl IntoIterator<Item = &'a Recorded>) -> Self {
        let sums = records.into_iter().map(|record| Self {
            runs: u64::from(record.operation == "run"),
            tokens: record.tokens,
            total: record.total,
            nano_usd: record.nano_usd.unwrap_or_default(),
        });
        sums.sum()
    }

    fn of_json(value: &Value) -> Self {
        let count = |name: &str| value[name].as_u64().unwrap_or_default();
        let mut tokens = Tokens::default();
        tokens.input = count("inputTokens");
        tokens.cache_read = count("cacheReadTokens");
        tokens.cache_write = count("cacheWriteTokens");
        tokens.output = count("outputTokens");
        tokens.reasoning = count("reasoningTokens");
        Self {
            runs: count("runs"),
            tokens,
            total: count("totalTokens"),
            nano_usd: value["cost"].as_str().map_or(0, nanos),
        }
    }
}

impl std::iter::Sum for Sum {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            runs: sum.runs + one.runs,
            tokens: [sum.tokens, one.tokens].into_iter().sum(),
            total: sum.total + one.total,
            nano_usd: sum.nano_usd + one.nano_usd,
        })
    }
}
