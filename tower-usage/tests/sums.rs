//! Sums of very many records: to the nano-USD what the rates say, in memory and in a ledger.
//!
//! `d5_55_…_in_a_ledger` stores 200,000 records. All ten million take some minutes:
//!
//! ```sh
//! USAGE_RECORDS=10000000 cargo test --release -p tower-usage --features sqlite --test sums
//! ```
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use tower_usage::{NanoUsd, Price, Rate, TokenCounts};

/// Random, the same each time: SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators").
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Small numbers as often as large ones.
    fn count(&mut self, bits: u64) -> u64 {
        let random = self.next();
        (random >> 6) >> (58 - bits + random % (bits + 1))
    }
}

const MODELS: usize = 64;
/// Prices that are no round numbers, from a nano-USD to 100 dollars per million tokens.
fn rates(random: &mut Random) -> [Rate; MODELS] {
    [(); MODELS].map(|()| {
        let [a, b, c, d, e] = [(); 5].map(|()| Price::from_nanos_per_million(random.count(37)));
        Rate::new(a, b)
            .cache_read(c)
            .cache_write(d)
            .cache_write_1h(e)
    })
}

fn tokens(random: &mut Random) -> TokenCounts {
    let which = random.next();
    let mut tokens = TokenCounts::default();
    // Each class is at times not reported.
    tokens.input = (which & 15 != 0).then(|| random.count(20));
    tokens.output = (which & 0xf0 != 0).then(|| random.count(16));
    tokens.cache_read = (which & 0x300 == 0).then(|| random.count(20));
    tokens.cache_write = (which & 0x3000 == 0).then(|| random.count(16));
    let long = tokens.cache_write.filter(|_| which & 0xc000 == 0);
    tokens.cache_write_1h = long.map(|written| written / 3);
    tokens
}

/// What tokens cost, in millionths of a nano-USD.
fn exact(rate: &Rate, tokens: &TokenCounts) -> u128 {
    let price = |count: Option<u64>, price: Price| {
        u128::from(count.unwrap_or(0)) * u128::from(price.as_nanos_per_million())
    };
    price(tokens.input, rate.input_price())
        + price(tokens.output, rate.output_price())
        + price(tokens.cache_read, rate.cache_read_price())
        + price(
            tokens
                .cache_write
                .map(|written| written - tokens.cache_write_1h.unwrap_or(0)),
            rate.cache_write_price(),
        )
        + price(
            tokens.cache_write_1h,
            rate.cache_write_1h_price().unwrap_or_default(),
        )
}

#[test]
fn d5_55_ten_million_records_add_up_to_the_nano_usd() {
    const RECORDS: u64 = 10_000_000;
    const USERS: usize = 1_000;
    let mut random = Random(55);
    let rates = rates(&mut random);
    // As counters are kept, and as statements are made: by user, by model, and all in one.
    let (mut users, mut models) = ([NanoUsd::ZERO; USERS], [NanoUsd::ZERO; MODELS]);
    let (mut used, mut total, mut parts) = (0_u128, 0_i128, 0_u128);
    for _ in 0..RECORDS {
        let which = usize::try_from(random.next() >> 32).unwrap();
        let (user, model) = (which % USERS, which / USERS % MODELS);
        let tokens = tokens(&mut random);
        let rate = &rates[model];
        let (cost, exact) = (rate.cost(&tokens).unwrap(), exact(rate, &tokens));
        let rounded = i128::try_from((exact + 500_000) / 1_000_000).unwrap();
        assert_eq!(
            i128::from(cost.as_nanos()),
            rounded,
            "rounded once, half up"
        );
        users[user] = users[user].checked_add(cost).unwrap();
        models[model] = models[model].checked_add(cost).unwrap();
        used += u128::from(tokens.total());
        total += rounded;
        parts += exact;
    }
    let sum = |sums: &[NanoUsd]| {
        sums.iter()
            .map(|sum| i128::from(sum.as_nanos()))
            .sum::<i128>()
    };
    assert_eq!((sum(&users), sum(&models)), (total, total));
    // What rounding makes of it all is less than half a nano-USD a record: here, half a cent.
    let off = u128::try_from(total).unwrap() * 1_000_000;
    assert!(off.abs_diff(parts) <= u128::from(RECORDS) * 500_000);
    assert!(used > u128::from(RECORDS), "there is something to add up");
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn d5_55_every_record_adds_up_to_the_nano_usd_in_a_ledger() {
    use std::{
        collections::HashMap,
        env,
        sync::{Arc, Mutex},
        time::{Duration, SystemTime},
    };

    use tower_usage::{
        Operation, Place, UsageRecord,
        sqlite::{GroupBy, LedgerOptions, SettleFuture, SqliteLedger},
    };

    let records = env::var("USAGE_RECORDS").map_or(50_000, |count| count.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let options = LedgerOptions::new().capacity(20_000);
    let ledger = SqliteLedger::open(directory.path().join("ledger.db"), options).unwrap();
    // The counters that the ledger settles.
    let settled = Arc::new(Mutex::new(HashMap::<Arc<str>, (u64, i64)>::new()));
    let counters = Arc::clone(&settled);
    let settle = move |record: &UsageRecord| {
        let mut counters = counters.lock().unwrap();
        let counter = counters.entry(record.subject.clone()).or_default();
        counter.0 += record.tokens.total();
        counter.1 += record.cost.unwrap().as_nanos();
        SettleFuture::ready(Ok(()))
    };
    ledger.start_settling(Arc::new(settle)).unwrap();

    let mut random = Random(56);
    let rates = rates(&mut random);
    let users: Vec<Arc<str>> = (0..100).map(|n| format!("user-{n}").into()).collect();
    let names: Vec<Arc<str>> = (0..MODELS).map(|n| format!("model-{n}").into()).collect();
    let mut expected = HashMap::<Arc<str>, (u64, i128)>::new();
    for n in 0..records {
        let which = usize::try_from(random.next() >> 32).unwrap();
        let (user, model) = (&users[which % users.len()], which / 128 % MODELS);
        let mut record = UsageRecord::new(user.clone(), Operation::ModelCall);
        record.admitted_at = SystemTime::UNIX_EPOCH + Duration::from_secs(n / 50);
        record.model = Some(names[model].clone());
        record.settle_ref = Some("ticket".into());
        record.tokens = tokens(&mut random);
        record.rate = Some(rates[model]);
        record.cost = rates[model].cost(&record.tokens);
        let sum = expected.entry(user.clone()).or_default();
        sum.0 += record.tokens.total();
        sum.1 +=
            i128::try_from((exact(&rates[model], &record.tokens) + 500_000) / 1_000_000).unwrap();
        match Place::take(ledger.clone()) {
            Ok(place) => place.record(record),
            Err(_) => {
                ledger.flush().await.unwrap();
                Place::take(ledger.clone()).unwrap().record(record);
            }
        }
    }
    ledger.flush().await.unwrap();
    let always = (
        SystemTime::UNIX_EPOCH,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32),
    );
    let settled = settled.lock().unwrap();
    let mut stored = 0;
    for user in &users {
        let sum = ledger.sum(&**user, always.0, always.1).unwrap();
        let (tokens, cost) = expected[user];
        assert_eq!(
            (sum.total_tokens, i128::from(sum.cost.as_nanos())),
            (tokens, cost),
            "{user}"
        );
        assert_eq!(settled[user], (tokens, sum.cost.as_nanos()), "{user}");
        for group_by in [GroupBy::Day, GroupBy::Model] {
            let totals = ledger
                .totals(&**user, always.0, always.1, group_by)
                .unwrap();
            let statement = totals
                .iter()
                .map(|total| i128::from(total.sum.cost.as_nanos()));
            assert_eq!(statement.sum::<i128>(), cost, "{user} by {group_by:?}");
        }
        stored += sum.records;
    }
    assert_eq!(stored, records);
}
