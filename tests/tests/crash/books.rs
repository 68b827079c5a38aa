//! What the ledger has, and what the provider has written down.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::Duration,
};

use gateway_tests::provider::{Api, ModelCall, Tokens};
use rusqlite::{Connection, OpenFlags, Row};
use tokio::time::{Instant, sleep};

/// The longest wait for answers that clients have left to be read to their end and recorded.
const SETTLES: Duration = Duration::from_secs(60);

/// What `[[price]]` says, in nano-USD per token.
const INPUT: u64 = 3_000;
const CACHE_READ: u64 = 300;
const CACHE_WRITE: u64 = 3_750;
const OUTPUT: u64 = 15_000;

/// A row of the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    id: String,
    user: String,
    provider: String,
    response_id: Option<String>,
    tokens: Tokens,
    total: u64,
    nano_usd: u64,
    source: String,
    outcome: String,
    /// Marked as one whose end nobody has seen.
    is_lost: bool,
}

/// Provider's log and ledger, compared.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// The entries of calls, by what the provider was asked; of some of those that did not end, the provider does not know
    /// which they are.
    entries: HashMap<String, Entry>,
    used: BTreeMap<String, (u64, u64)>,
    pub(crate) calls: usize,
    pub(crate) exact: usize,
    pub(crate) failed: usize,
    /// As they began: the gateway was killed before they ended.
    pub(crate) estimated: usize,
    /// The same, but the provider has not seen them.
    pub(crate) never_there: usize,
    /// Clients left before they had begun; they cost nothing.
    pub(crate) withdrawn: usize,
    /// Tokens of the estimated ones, less what the provider bills.
    pub(crate) off: i64,
}

/// The rows of all whose names begin like this, once nothing is left to be recorded and settled.
pub(crate) async fn settled(dir: &Path, mark: &str) -> Vec<Entry> {
    let deadline = Instant::now() + SETTLES;
    loop {
        let (left, entries) = read(dir, mark).expect("the ledger");
        if left == 0 {
            return entries;
        }
        assert!(Instant::now() < deadline, "{left} are not settled");
        sleep(Duration::from_millis(50)).await;
    }
}

/// What is left to be done, and the rows.
fn read(dir: &Path, mark: &str) -> rusqlite::Result<(u64, Vec<Entry>)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let ledger = Connection::open_with_flags(dir.join("gateway.db"), flags)?;
    ledger.busy_timeout(Duration::from_secs(5))?;
    let left = ledger.query_row(
        "SELECT (SELECT count(*) FROM token_usage_begun)
             + (SELECT count(*) FROM token_usage_logs WHERE settled <> 1)",
        [],
        |row| row.get::<_, i64>(0),
    )?;
    let mut select = ledger.prepare(
        "SELECT lower(hex(id)) AS hex_id, * FROM token_usage_logs
         WHERE operation = 'model_call' AND user_id LIKE ?1 || '-%'",
    )?;
    let entries = select.query_map([mark], entry)?;
    Ok((left.unsigned_abs(), entries.collect::<Result<_, _>>()?))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let count = |column: &str| {
        let count = row.get::<_, Option<i64>>(column)?;
        Ok::<_, rusqlite::Error>(count.map_or(0, i64::unsigned_abs))
    };
    let mut tokens = Tokens::default();
    tokens.input = count("input_tokens")?;
    tokens.cache_read = count("cache_read_tokens")?;
    tokens.cache_write = count("cache_write_tokens")?;
    tokens.output = count("output_tokens")?;
    Ok(Entry {
        id: row.get("hex_id")?,
        user: row.get("user_id")?,
        provider: row.get("provider")?,
        response_id: row.get("response_id")?,
        tokens,
        total: count("total_tokens")?,
        nano_usd: count("cost_nano_usd")?,
        source: row.get("source")?,
        outcome: row.get("outcome")?,
        is_lost: row.get::<_, Option<String>>("metadata")?.as_deref() == Some(r#"{"lost":true}"#),
    })
}

fn price(tokens: Tokens) -> u64 {
    tokens.input * INPUT
        + tokens.cache_read * CACHE_READ
        + tokens.cache_write * CACHE_WRITE
        + tokens.output * OUTPUT
}

// === impl Books ===

impl Books {
    /// Every call that the provider has seen is in the ledger once, and nothing else is but calls that did not get there.
    pub(crate) fn compare(entries: Vec<Entry>, calls: &[ModelCall]) -> Self {
        let mut books = Self::default();
        let mut by_id = HashMap::new();
        let mut by_answer = HashMap::new();
        for entry in entries {
            assert_eq!(entry.nano_usd, price(entry.tokens), "{entry:?}");
            assert_eq!(entry.total, entry.tokens.total(), "{entry:?}");
            let (tokens, nano_usd) = books.used.entry(entry.user.clone()).or_default();
            (*tokens, *nano_usd) = (*tokens + entry.total, *nano_usd + entry.nano_usd);
            if let Some(answer) = &entry.response_id {
                let twice = by_answer.insert(answer.clone(), entry.id.clone());
                assert!(twice.is_none(), "an answer is recorded twice: {entry:?}");
            }
            by_id.insert(entry.id.clone(), entry);
        }
        // Anthropic's clients tell no id: of a call that did not end it is only known that there was one.
        let mut nameless = Vec::new();
        for call in calls {
            books.calls += 1;
            let told = call.client_request_id.as_ref();
            let told = told.map(|id| id.replace('-', ""));
            let id = told.or_else(|| by_answer.get(&call.id).cloned());
            match id.and_then(|id| by_id.remove(&id)) {
                Some(entry) => books.add(call, entry),
                None if call.api == Api::Messages => nameless.push(call),
                None => {
                    panic!("a call that the ledger does not know, or knows once for two: {call:?}")
                }
            }
        }
        for call in nameless {
            let user = call.last_user.split(' ').next();
            let like = |entry: &&Entry| {
                let is_hers = Some(&*entry.user) == user && entry.provider == "anthropic";
                is_hers && entry.response_id.is_none() && entry.outcome != "refused"
            };
            let found = by_id.values().filter(like);
            // One that failed is no other.
            let fits = |entry: &&Entry| (entry.outcome == "failed") == (call.status != 200);
            let found = found.clone().find(fits).or_else(|| found.clone().next());
            let id = found.map(|entry| entry.id.clone());
            match id.and_then(|id| by_id.remove(&id)) {
                Some(entry) => books.add(call, entry),
                None => panic!("a call that the ledger does not know: {call:?}"),
            }
        }
        for entry in by_id.into_values() {
            match (&*entry.source, &*entry.outcome) {
                ("estimated", "aborted") if entry.is_lost => books.never_there += 1,
                (_, "refused") if entry.total == 0 => books.withdrawn += 1,
                _ => panic!("an invented call: {entry:?}"),
            }
        }
        books
    }

    fn add(&mut self, call: &ModelCall, entry: Entry) {
        let billed = call.tokens();
        match (&*entry.source, &*entry.outcome) {
            ("exact", "failed") if !entry.is_lost => {
                assert_ne!(call.status, 200, "{call:?} {entry:?}");
                assert_eq!(entry.total, 0, "{entry:?}");
                self.failed += 1;
            }
            ("exact", "complete" | "aborted") if !entry.is_lost => {
                let mut wanted = billed;
                wanted.reasoning = entry.tokens.reasoning;
                assert_eq!(entry.tokens, wanted, "{call:?} {entry:?}");
                assert!(call.finished, "{call:?} {entry:?}");
                self.exact += 1;
            }
            ("estimated", "aborted") if entry.is_lost => {
                self.estimated += 1;
                let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
                self.off += signed(entry.total) - signed(billed.total());
            }
            _ => panic!("not marked as what it is: {call:?} {entry:?}"),
        }
        let twice = self.entries.insert(call.last_user.clone(), entry);
        assert!(
            twice.is_none(),
            "one call that the provider saw twice: {call:?}"
        );
    }

    /// What somebody has used, in tokens and in nano-USD.
    pub(crate) fn used(&self, name: &str) -> (u64, u64) {
        self.used.get(name).copied().unwrap_or_default()
    }

    /// Whether a call is recorded, and as one that ended.
    pub(crate) fn find(&self, message: &str) -> Option<bool> {
        let entry = self.entries.get(message);
        entry.map(|entry| entry.source == "exact")
    }
}
