//! Counters of records: what they count, and that nobody can make more of them.
#![cfg(feature = "metrics")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use tower_usage::{
    MetricsSink, NanoUsd, Operation, Outcome, Place, PriceEntry, PriceList, Rate, Sink, Source,
    UsageRecord,
};

/// Keeps counters by name and labels.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    fn read(&self) -> BTreeMap<String, u64> {
        let counters = self.0.lock().unwrap();
        let read = |(name, count): (&String, &Arc<AtomicU64>)| (name.clone(), count.load(Relaxed));
        counters.iter().map(read).collect()
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        let mut counters = self.0.lock().unwrap();
        Counter::from_arc(Arc::clone(counters.entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("no gauge");
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("no histogram");
    }
}

fn count(
    sink: MetricsSink,
    records: impl IntoIterator<Item = UsageRecord>,
) -> BTreeMap<String, u64> {
    let (counters, sink) = (Counters::default(), Arc::new(sink) as Arc<dyn Sink>);
    with_local_recorder(&counters, || {
        for record in records {
            Place::take(sink.clone()).unwrap().record(record);
        }
        drop(Place::take(sink).unwrap());
    });
    counters.read()
}

fn sink() -> MetricsSink {
    MetricsSink::new(["m", "n"]).providers(["acme"])
}

#[test]
fn counts_records_tokens_and_money() {
    let mut record = UsageRecord::new("alice".into(), Operation::ModelCall);
    record.provider = Some("acme".into());
    record.model = Some("m".into());
    record.requested_model = Some("n".into());
    record.tokens.input = Some(10);
    record.tokens.output = Some(20);
    record.tokens.cache_read = Some(0);
    record.tokens.reasoning = Some(5);
    record.cost = Some(NanoUsd::from_nanos(75));
    let mut asked = UsageRecord::new("bob".into(), Operation::ModelCall);
    asked.requested_model = Some("n".into());
    asked.tokens.cache_write = Some(3);
    asked.cost = Some(NanoUsd::from_nanos(-1));
    asked.source = Source::Estimated;
    asked.outcome = Outcome::Aborted;
    let run = UsageRecord::new("carol".into(), Operation::Run);
    let price = |text: &str| text.parse().unwrap();
    let rate = Rate::new(price("4.00"), price("9.00")).cache_read(price("0.30"));
    let rate = rate
        .cache_write(price("1.50"))
        .cache_write_1h(price("3.00"));
    let list = PriceList::new([PriceEntry::new("n", rate)]).unwrap();
    let mut priced = UsageRecord::new("dave".into(), Operation::ModelCall);
    priced.model = Some("n".into());
    priced.tokens.input = Some(1);
    priced.tokens.output = Some(500);
    priced.tokens.cache_read = Some(1);
    priced.tokens.cache_write = Some(1_000);
    priced.tokens.cache_write_1h = Some(100);
    priced.price(&list);
    let counted = count(sink(), [record.clone(), record, asked, run, priced]);
    let expected = [
        ("usage_cost_nano_usd_total{model=m,class=none}", 150),
        ("usage_cost_nano_usd_total{model=n,class=cache_read}", 300),
        (
            "usage_cost_nano_usd_total{model=n,class=cache_write}",
            1_650_000,
        ),
        ("usage_cost_nano_usd_total{model=n,class=input}", 4_000),
        ("usage_cost_nano_usd_total{model=n,class=output}", 4_500_000),
        (
            "usage_records_total{operation=model_call,outcome=aborted,source=estimated,provider=none}",
            1,
        ),
        (
            "usage_records_total{operation=model_call,outcome=complete,source=exact,provider=acme}",
            2,
        ),
        (
            "usage_records_total{operation=model_call,outcome=complete,source=exact,provider=none}",
            1,
        ),
        (
            "usage_records_total{operation=run,outcome=complete,source=exact,provider=none}",
            1,
        ),
        ("usage_tokens_total{model=m,class=input}", 20),
        ("usage_tokens_total{model=m,class=output}", 40),
        ("usage_tokens_total{model=m,class=reasoning}", 10),
        ("usage_tokens_total{model=n,class=cache_read}", 1),
        ("usage_tokens_total{model=n,class=cache_write}", 1_003),
        ("usage_tokens_total{model=n,class=cache_write_1h}", 100),
        ("usage_tokens_total{model=n,class=input}", 1),
        ("usage_tokens_total{model=n,class=output}", 500),
    ];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(counted, BTreeMap::from(expected));
}

#[test]
fn d8_72_a_hundred_thousand_users_and_models_make_no_more_series() {
    let records = (0..100_000).map(|n| {
        let name: Arc<str> = format!("x-{n}").into();
        let mut record = UsageRecord::new(name.clone(), Operation::ModelCall);
        record.provider = Some(name.clone());
        record.model = Some(if n % 2 == 0 { name.clone() } else { "m".into() });
        record.session_key = Some(name.clone());
        record.run_id = Some(name.clone());
        record.response_id = Some(name);
        record.tokens.input = Some(1);
        record.cost = Some(NanoUsd::from_nanos(1));
        record
    });
    let counted = count(sink(), records);
    assert_eq!(
        counted["usage_tokens_total{model=other,class=input}"],
        50_000
    );
    assert_eq!(
        counted["usage_cost_nano_usd_total{model=m,class=none}"],
        50_000
    );
    assert_eq!(counted.len(), 5, "{:?}", counted.keys());
    assert!(!counted.keys().any(|series| series.contains("x-")));
}
