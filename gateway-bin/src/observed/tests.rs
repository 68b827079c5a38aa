//! A meter against an instance that is made to fail, to hide and to have another time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tower_usage::postgres::{PostgresLedger, Shipper};
use tower_usage::sqlite::{LedgerOptions, SqliteLedger};
use tower_usage::{PriceList, Prices, UsageRecord};

use super::message::Message;
use super::meter::{Meter, Parts};
use super::{Heard, channel};
use crate::clock;
use crate::instance::{Admin, AdminError};
use crate::records::Records;
use crate::store::Store;
use crate::store::testing::Database;

const HOUR: i64 = 3_600_000;

/// What nobody is shown.
const HIDDEN: &str = "NO_REPLY";

/// What is not shown for its size.
const LARGE: &str = "large";

/// An instance as OpenClaw 2026.9.6 is, as far as a meter asks it.
#[derive(Clone, Default)]
struct Instance(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    sessions: BTreeMap<String, Session>,
    /// By how much its clock is ahead.
    ahead: i64,
    /// The session that it cannot read.
    busy: Option<String>,
    /// The methods it was asked for, and of which session.
    asked: Vec<(&'static str, String)>,
    answers: u64,
}

#[derive(Default)]
struct Session {
    updated: u64,
    is_pinned: bool,
    messages: Vec<Value>,
}

// === impl Instance ===

impl Instance {
    fn now(&self) -> u64 {
        let now = u64::try_from(clock::now_ms()).unwrap();
        now.checked_add_signed(self.0.lock().unwrap().ahead)
            .unwrap()
    }

    /// Writes an answer into a session, and says it.
    fn write(&self, session: &str) -> Message {
        self.write_text(session, "hello")
    }

    fn write_text(&self, session: &str, text: &str) -> Message {
        let (key, now) = (format!("agent:slot-001:{session}"), self.now());
        let mut state = self.0.lock().unwrap();
        state.answers += 1;
        let id = state.answers;
        let session = state.sessions.entry(key.clone()).or_default();
        session.updated = now;
        let seq = session.messages.len() + 1;
        let message = json!({
            "role": "assistant", "provider": "acme", "model": "m-1", "stopReason": "stop", "timestamp": now,
            "usage": {"input": 10, "output": 1}, "responseId": format!("chatcmpl-{id}"),
            "content": [{"type": "text", "text": text}],
            "__openclaw": {"id": format!("m{id}"), "seq": seq, "recordTimestampMs": now},
        });
        session.messages.push(message.clone());
        Message::of_history(&key.into(), &message).unwrap()
    }

    fn admin(&self) -> Admin {
        let instance = self.clone();
        Admin::answered_by(move |method, params| {
            let now = instance.now();
            instance.0.lock().unwrap().answer(method, params, now)
        })
    }

    fn asked(&self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

// === impl State ===

impl State {
    fn answer(
        &mut self,
        method: &'static str,
        params: &Value,
        now: u64,
    ) -> Result<Value, AdminError> {
        let key = params["sessionKey"].as_str().or(params["key"].as_str());
        let key = key.unwrap_or_default().to_owned();
        self.asked.push((method, key.clone()));
        if method == "sessions.list" {
            return Ok(self.list(params, now));
        }
        if self.busy.as_ref() == Some(&key) {
            return Err(AdminError::Down);
        }
        let session = &self.sessions[&key];
        let offset = usize::try_from(params["offset"].as_u64().unwrap_or(0)).unwrap();
        let limit = usize::try_from(params["limit"].as_u64().unwrap_or(200)).unwrap();
        let end = session.messages.len().saturating_sub(offset);
        let messages = &session.messages[end.saturating_sub(limit)..end];
        let text = |message: &Value| message["content"][0]["text"].clone();
        let is_shown = |message: &&Value| text(message) != HIDDEN;
        if method == "sessions.get" {
            return Ok(json!({"messages": messages}));
        }
        if method == "chat.message.get" {
            let is_it = |message: &&Value| message["__openclaw"]["id"] == params["messageId"];
            let message = session.messages.iter().filter(is_shown).find(is_it);
            return Ok(json!({"ok": message.is_some(), "message": message}));
        }
        assert_eq!(method, "chat.history");
        let shown = messages.iter().filter(is_shown).map(|message| {
            if text(message) != LARGE {
                return message.clone();
            }
            let mut openclaw = message["__openclaw"].clone();
            openclaw["truncated"] = true.into();
            openclaw["reason"] = "oversized".into();
            openclaw
                .as_object_mut()
                .unwrap()
                .remove("recordTimestampMs");
            json!({"role": "assistant", "timestamp": message["timestamp"], "__openclaw": openclaw})
        });
        let shown: Vec<Value> = shown.collect();
        let next = (end > limit).then_some(offset + messages.len());
        Ok(json!({"messages": shown, "totalMessages": session.messages.len(), "nextOffset": next}))
    }

    /// Those that are pinned come first, in an order of their own.
    fn list(&self, params: &Value, now: u64) -> Value {
        let wanted = |session: &&(&String, &Session)| {
            let is_pinned = params["pinned"].as_bool();
            is_pinned.is_none_or(|is_pinned| is_pinned == session.1.is_pinned)
                && params["archived"] != true
        };
        let all: Vec<_> = self.sessions.iter().collect();
        let mut all: Vec<_> = all.iter().filter(wanted).collect();
        all.sort_by_key(|(_, session)| match session.is_pinned {
            true => (false, 0),
            false => (true, u64::MAX - session.updated),
        });
        let offset = usize::try_from(params["offset"].as_u64().unwrap_or(0)).unwrap();
        let limit = usize::try_from(params["limit"].as_u64().unwrap_or(100)).unwrap();
        let page = all.iter().skip(offset).take(limit);
        let page: Vec<Value> = page
            .map(|(key, session)| json!({"key": key, "updatedAt": session.updated}))
            .collect();
        let next = (offset + page.len() < all.len()).then_some(offset + page.len());
        json!({"ts": now, "sessions": page, "nextOffset": next})
    }
}

/// A gateway's store and ledger, which outlive a meter.
struct Gateway {
    store: Store,
    ledger: Arc<SqliteLedger>,
    records: Records,
    dir: TempDir,
}

// === impl Gateway ===

impl Gateway {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store.db")).unwrap();
        let ledger =
            SqliteLedger::open(dir.path().join("ledger.db"), LedgerOptions::new()).unwrap();
        Self {
            store,
            records: Records::File(Arc::clone(&ledger)),
            ledger,
            dir,
        }
    }

    /// One of several.
    async fn sharing(url: &str) -> Self {
        Self {
            store: Store::connect(url).await.unwrap(),
            records: Records::Database(Box::new(PostgresLedger::new(url).unwrap())),
            ..Self::new()
        }
    }

    /// A meter that knows nothing but what these have.
    fn meter(&self, instance: &Instance) -> Meter {
        let (_, heard): (_, Heard) = channel();
        Meter::new(Parts {
            instance: "pool-1".into(),
            owner: None,
            admin: instance.admin(),
            heard,
            store: self.store.clone(),
            sink: Arc::<SqliteLedger>::clone(&self.ledger),
            ledger: Arc::clone(&self.ledger),
            records: self.records.clone(),
            prices: Prices::from(PriceList::new([]).unwrap()),
        })
    }

    /// What is in the ledger, on the disk.
    async fn records(&self) -> Vec<UsageRecord> {
        self.ledger.flush().await.unwrap();
        let long_after = UNIX_EPOCH + Duration::from_secs(1 << 33);
        let all = self
            .ledger
            .records(None, UNIX_EPOCH, long_after, 10_000, None);
        all.unwrap()
    }

    async fn noted(&self) -> SystemTime {
        self.store.seen("pool-1").await.unwrap().until
    }

    /// As of long ago, so that it can be told whether it moves.
    async fn has_metered_for(&self, hours: i64) -> SystemTime {
        self.noted().await;
        let file = rusqlite::Connection::open(self.dir.path().join("store.db")).unwrap();
        let back = "UPDATE observed_instances SET since = since - ?1, seen_until = seen_until - ?1";
        file.execute(back, [hours * HOUR]).unwrap();
        self.noted().await
    }
}

/// Asks until a round is over.
async fn round(meter: &mut Meter) {
    meter.look_soon();
    loop {
        meter.step().await.unwrap();
        if meter.has_read_all() {
            return;
        }
    }
}

#[tokio::test]
async fn pinned_sessions_do_not_hide_the_others() {
    let (instance, gateway) = (Instance::default(), Gateway::new());
    gateway.has_metered_for(1).await;
    for n in 0..450 {
        instance.write(&format!("pinned-{n}"));
    }
    {
        let mut state = instance.0.lock().unwrap();
        for (n, session) in state.sessions.values_mut().enumerate() {
            session.is_pinned = true;
            // All but one are as old as the hills.
            if n != 449 {
                session.updated = 1;
            }
        }
    }
    instance.write("other");
    let mut meter = gateway.meter(&instance);
    round(&mut meter).await;
    assert_eq!(gateway.records().await.len(), 2);
}

#[tokio::test]
async fn d6_60_what_a_meter_had_heard_but_not_recorded_when_it_died_is_found_once() {
    let (instance, gateway) = (Instance::default(), Gateway::new());
    gateway.has_metered_for(1).await;
    let mut meter = gateway.meter(&instance);
    round(&mut meter).await;
    meter.note().await.unwrap();
    gateway.has_metered_for(1).await;
    // Of two that were announced the later is recorded, and then the power is gone.
    instance.0.lock().unwrap().ahead = -HOUR / 2;
    instance.write("first");
    instance.0.lock().unwrap().ahead = 0;
    let later = instance.write("second");
    meter.record(&later, "announced").await.unwrap();
    gateway.records().await;
    meter.note().await.unwrap();
    drop(meter);
    assert_eq!(gateway.records().await.len(), 1);

    let mut another = gateway.meter(&instance);
    round(&mut another).await;
    let records = gateway.records().await;
    let answers: Vec<_> = records.iter().map(|one| one.response_id.clone()).collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_ne!(answers[0], answers[1]);
}

#[tokio::test]
async fn nothing_is_noted_before_all_of_a_round_is_read() {
    let (instance, gateway) = (Instance::default(), Gateway::new());
    let long_ago = gateway.has_metered_for(1).await;
    for session in ["a", "b", "c"] {
        instance.write(session);
    }
    instance.0.lock().unwrap().busy = Some("agent:slot-001:b".to_owned());
    let mut meter = gateway.meter(&instance);
    for _ in 0..5 {
        meter.step().await.unwrap();
        meter.note().await.unwrap();
    }
    // The others do not wait for it.
    assert_eq!(gateway.records().await.len(), 2);
    assert_eq!(gateway.noted().await, long_ago);

    instance.0.lock().unwrap().busy = None;
    let begun = clock::now();
    instance.asked();
    while !meter.has_read_all() {
        meter.step().await.unwrap();
    }
    let lacked = ("chat.history", "agent:slot-001:b".to_owned());
    assert_eq!(
        instance.asked(),
        [lacked],
        "it goes on where it was stopped"
    );
    meter.note().await.unwrap();
    assert_eq!(gateway.records().await.len(), 3);
    let noted = gateway.noted().await;
    assert!(
        noted > long_ago && noted < begun,
        "as of when the round began"
    );
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_left_alone_for_longer_and_longer() {
    let (instance, gateway) = (Instance::default(), Gateway::new());
    gateway.has_metered_for(1).await;
    instance.write("a");
    instance.0.lock().unwrap().busy = Some("agent:slot-001:a".to_owned());
    let mut meter = gateway.meter(&instance);
    let mut pauses = Vec::new();
    for _ in 0..40 {
        meter.step().await.unwrap();
        let pause = meter.next_step().saturating_duration_since(Instant::now());
        pauses.push(pause.as_secs_f64().round() as u64);
    }
    // The first one only listed the sessions, and so did the one after so many failures.
    assert_eq!(pauses[..8], [0, 2, 4, 8, 16, 32, 60, 60], "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= 60), "{pauses:?}");
    let lists = instance.asked().into_iter();
    let lists = lists.filter(|(method, _)| *method == "sessions.list");
    assert!(lists.count() <= 5 * 4, "not everything anew each time");
}

#[tokio::test]
async fn the_time_an_instance_has_does_not_matter() {
    for ahead in [0, HOUR, -HOUR, 24 * HOUR] {
        let (instance, gateway) = (Instance::default(), Gateway::new());
        let long_ago = gateway.noted().await;
        instance.0.lock().unwrap().ahead = ahead;
        instance.write("a");
        let mut meter = gateway.meter(&instance);
        let mut noted = long_ago;
        for n in 1..=3 {
            // What is noted is a millisecond, and a round does not take as long.
            sleep(Duration::from_millis(2)).await;
            round(&mut meter).await;
            meter.note().await.unwrap();
            assert_eq!(gateway.records().await.len(), n, "{ahead}");
            let now = gateway.noted().await;
            assert!(now > noted && now <= clock::now(), "{ahead}");
            noted = now;
            instance.write("a");
            // It is set right.
            if n == 2 {
                instance.0.lock().unwrap().ahead = 0;
            }
        }
    }
}

#[tokio::test]
async fn d6_60_answers_that_nobody_is_shown_are_found() {
    let (instance, gateway) = (Instance::default(), Gateway::new());
    gateway.has_metered_for(1).await;
    for (session, texts) in [
        ("first", [HIDDEN, "hello", "hello", "hello"]),
        ("between", ["hello", HIDDEN, "hello", LARGE]),
        ("last", ["hello", "hello", LARGE, HIDDEN]),
        ("all", [HIDDEN; 4]),
        ("large", [LARGE, "hello", HIDDEN, LARGE]),
    ] {
        for text in texts {
            instance.write_text(session, text);
        }
    }
    let mut meter = gateway.meter(&instance);
    round(&mut meter).await;
    assert_eq!(gateway.records().await.len(), 20);

    // What was written before is not asked for again.
    meter.note().await.unwrap();
    let path = gateway.dir.path().join("store.db");
    let file = rusqlite::Connection::open(path).unwrap();
    let ahead = "UPDATE observed_instances SET seen_until = seen_until + 60000";
    file.execute(ahead, []).unwrap();
    instance.asked();
    round(&mut meter).await;
    let asked = instance.asked();
    assert!(
        asked.iter().all(|(method, _)| *method == "sessions.list"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn d6_60_an_answer_that_nobody_is_shown_is_recorded_when_it_is_hinted_at() {
    let (instance, gateway) = (Instance::default(), Gateway::new());
    gateway.has_metered_for(1).await;
    let mut meter = gateway.meter(&instance);
    round(&mut meter).await;
    meter.note().await.unwrap();
    let (ear, mut heard) = channel();
    for text in ["hello", HIDDEN, "hello", "hello"] {
        instance.write_text("main", text);
    }
    let payload = json!({
        "sessionKey": "agent:slot-001:main", "phase": "message", "messageId": "m2", "messageSeq": 2, "ts": 1,
    });
    let payload = serde_json::value::to_raw_value(&payload).unwrap();
    ear.hear("sessions.changed", &payload);
    let other = json!({"sessionKey": "agent:slot-001:main", "phase": "end", "ts": 1});
    ear.hear(
        "sessions.changed",
        &serde_json::value::to_raw_value(&other).unwrap(),
    );
    meter.hear(heard.queue.recv().await.unwrap()).await.unwrap();
    assert!(
        heard.queue.try_recv().is_err(),
        "the end of a run hides nothing"
    );

    assert!(meter.next_step() <= Instant::now());
    meter.step().await.unwrap();
    let records = gateway.records().await;
    let hidden = records
        .iter()
        .any(|one| one.response_id.as_deref() == Some("chatcmpl-2"));
    assert!(hidden, "{records:?}");
    round(&mut meter).await;
    assert_eq!(gateway.records().await.len(), 4, "each once");
}

#[tokio::test]
async fn d6_60_what_another_gateway_has_recorded_is_not_recorded_again() {
    let Some(database) = Database::new().await else {
        return;
    };
    let instance = Instance::default();
    let first = Gateway::sharing(&database.url).await;
    let second = Gateway::sharing(&database.url).await;
    first.noted().await;
    instance.write("main");
    round(&mut first.meter(&instance)).await;
    assert_eq!(first.records().await.len(), 1);
    let shared = PostgresLedger::new(&database.url).unwrap();
    let shipper = Shipper::start(&first.ledger, &shared).await.unwrap();
    shipper.flush().await.unwrap();

    // The first died before it noted anything.
    instance.write_text("main", HIDDEN);
    round(&mut second.meter(&instance)).await;
    let records = second.records().await;
    let answers: Vec<_> = records
        .iter()
        .map(|one| one.response_id.as_deref())
        .collect();
    assert_eq!(answers, [Some("chatcmpl-2")]);
    shipper.stop().await;
    database.end().await;
}
