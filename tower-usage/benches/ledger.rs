//! How many records become durable in a second, against how often the disk can be told to be sure of something.
//!
//! Many tasks record at once, and wait for places when the ledger has none left. A commit is one `fsync`, of all that came
//! while the one before went on: the more of them for each, the less a disk that is slow at it shows.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark may fail, and shows what it found"
)]

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Builder, task::JoinSet, time::sleep};
use tower_usage::{
    NanoUsd, Operation, Place, UsageRecord,
    sqlite::{LedgerOptions, SqliteLedger},
};

/// Most records of one commit, as in the ledger's writer.
const BATCH: f64 = 512.0;

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

fn main() {
    // `cargo test` only sees whether it runs.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (records, time) = match is_bench {
        true => (200_000, Duration::from_secs(2)),
        false => (500, Duration::from_millis(20)),
    };
    let directory = tempfile::tempdir_in(".").unwrap();
    let syncs = syncs_per_second(&directory.path().join("sync"), time);
    println!("the disk      {syncs:>9.0} fsync/s of 4 KiB");
    for tasks in [1, 64, 1024] {
        let path = directory.path().join(format!("{tasks}.db"));
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .unwrap();
        let rate = runtime.block_on(records_per_second(&path, tasks, records));
        let ratio = rate / (syncs * BATCH);
        let per_sync = rate / syncs;
        println!(
            "{tasks:>5} tasks   {rate:>9.0} records/s   {per_sync:>6.1} for each fsync the disk can   {ratio:.3} of its rate x {BATCH}"
        );
    }
}

fn syncs_per_second(path: &Path, time: Duration) -> f64 {
    let mut file = File::create(path).unwrap();
    let begun = Instant::now();
    let mut times = 0_u32;
    while begun.elapsed() < time {
        file.seek(SeekFrom::Start(u64::from(times % 256) * 4096))
            .unwrap();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        times += 1;
    }
    f64::from(times) / begun.elapsed().as_secs_f64()
}

async fn records_per_second(path: &Path, tasks: usize, records: u32) -> f64 {
    let ledger = SqliteLedger::open(path, LedgerOptions::new()).unwrap();
    let each = records / u32::try_from(tasks).unwrap();
    let begun = Instant::now();
    let mut recording = JoinSet::new();
    for task in 0..tasks {
        let ledger = Arc::clone(&ledger);
        recording.spawn(async move {
            for n in 0..each.max(1) {
                let place = loop {
                    match Place::take(ledger.clone()) {
                        Ok(place) => break place,
                        Err(_) => sleep(Duration::from_millis(1)).await,
                    }
                };
                let user = USERS.get(task % USERS.len()).copied().unwrap_or_default();
                place.record(record(user, u64::from(n)));
            }
        });
    }
    recording.join_all().await;
    ledger.flush().await.unwrap();
    let took = begun.elapsed().as_secs_f64();
    ledger.close().await.unwrap();
    f64::from(each.max(1)) * f64::from(u32::try_from(tasks).unwrap()) / took
}

fn record(user: &str, n: u64) -> UsageRecord {
    let mut record = UsageRecord::new(user.into(), Operation::ModelCall);
    record.provider = Some("provider".into());
    record.model = Some("gpt-4o-2024-08-06".into());
    record.requested_model = Some("gpt-4o".into());
    record.response_id = Some(format!("chatcmpl-{}", record.id).into());
    record.tokens.input = Some(1_000 + n);
    record.tokens.output = Some(200);
    record.cost = Some(NanoUsd::from_nanos(4_500_000));
    record
}
