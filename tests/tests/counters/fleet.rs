//! Three gateways before one database.

use std::{collections::BTreeMap, time::Duration};

use ::http::StatusCode;
use aws_lc_rs::digest::{SHA256, digest};
use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    secret,
};
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};

/// Gateways that share everything but their ledgers.
pub(crate) struct Fleet {
    pub(crate) gateways: Vec<Gateway>,
    dirs: Vec<TempDir>,
    database: Client,
    key: String,
}

/// Somebody who calls models at one gateway.
#[derive(Clone)]
pub(crate) struct Caller {
    url: String,
    key: String,
    name: String,
}

/// What a ledger says of a model call.
pub(crate) struct Row {
    pub(crate) user: String,
    pub(crate) tokens: u64,
    pub(crate) source: String,
    pub(crate) settled: u64,
}

// === impl Fleet ===

impl Fleet {
    /// Three of them that let each person use so many tokens a day, before this Postgres and, for counters, this Redis;
    /// `more` is added to their configuration.
    pub(crate) async fn start(
        kit: &Kit,
        tokens: u64,
        database_url: &str,
        redis_url: Option<&str>,
        more: &str,
    ) -> Result<Self> {
        raise_limits();
        let dirs: Vec<_> = (0..3)
            .map(|_| tempfile::tempdir().expect("a temporary directory"))
            .collect();
        let first = Config::new(kit, dirs[0].path())?;
        let mut first = first.sharing_store(database_url, redis_url)?;
        let plan = format!("[plan.default]\ntokens_per_day = {tokens}\n");
        first.text = first
            .text
            .replacen("[plan.default]\ntokens_per_day = 2_000_000\n", &plan, 1);
        // Agents call models at one place, whichever gateway has made them.
        let egress = format!("[server]\negress_url = \"http://{}\"\n", first.egress);
        first.text = first.text.replacen("[server]\n", &egress, 1);
        first.text += more;
        let mut gateways = Vec::new();
        for dir in &dirs {
            let config = match gateways.is_empty() {
                true => first.clone(),
                false => first.replica(dir.path())?,
            };
            gateways.push(Gateway::start(config, dir.path()).await?);
        }
        Ok(Self {
            gateways,
            dirs,
            database: connect(database_url).await,
            key: secret::random()?,
        })
    }

    /// Connects to the database anew, which may have been killed.
    pub(crate) async fn connect(&mut self, database_url: &str) {
        self.database = connect(database_url).await;
    }

    /// Makes somebody whom no gateway has heard of, with a virtual key.
    pub(crate) async fn person(&self, name: &str) {
        let hash = digest(&SHA256, self.key_of(name).as_bytes());
        let user = "INSERT INTO oauth_users (user_id, provider, provider_user_id, created_at, updated_at, last_login_at)
                    VALUES ($1, 'corp', $1, 0, 0, 0)";
        let inserted = self.database.execute(user, &[&name]).await;
        inserted.expect("a user");
        let environment = "INSERT INTO user_openclaw_environments (user_id, workspace_dir, profile_name,
                               auth_profile_id, instance, agent_id, agent_spec, agent_ready_at, created_at, updated_at)
                           VALUES ($1, '/nowhere', $1, $1, 'pool-1', $1, '', 0, 0, 0)";
        let inserted = self.database.execute(environment, &[&name]).await;
        inserted.expect("an environment");
        let key =
            "INSERT INTO virtual_keys (key_id, user_id, hash, created_at) VALUES ($1, $1, $2, 0)";
        let inserted = self.database.execute(key, &[&name, &hash.as_ref()]).await;
        inserted.expect("a key");
    }

    /// How many virtual keys somebody has ever had.
    pub(crate) async fn keys_of(&self, name: &str) -> i64 {
        let keys = "SELECT count(*) FROM virtual_keys WHERE user_id = $1";
        let found = self.database.query_one(keys, &[&name]).await;
        found.expect("the database").get(0)
    }

    fn key_of(&self, name: &str) -> String {
        let hash = digest(&SHA256, format!("{name}{}", self.key).as_bytes());
        let hash: String = hash
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        // As long as those that gateways make.
        let mut key = format!("ocg-vk-{hash}");
        key.truncate("ocg-vk-".len() + 43);
        key
    }

    /// Somebody who calls models at one of the gateways.
    pub(crate) fn caller(&self, gateway: usize, name: &str) -> Caller {
        Caller {
            url: self.gateways[gateway].egress_url("/openai/v1/chat/completions"),
            key: self.key_of(name),
            name: name.to_owned(),
        }
    }

    /// What all ledgers say of these people's model calls, by the record's id.
    pub(crate) fn rows(&self, mark: &str) -> BTreeMap<String, Row> {
        let mut all = BTreeMap::new();
        for dir in &self.dirs {
            let path = dir.path().join("gateway.db");
            let ledger = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
            let ledger = ledger.expect("the ledger can be read");
            let mut select = ledger
                .prepare(
                    "SELECT lower(hex(id)), user_id, total_tokens, source, settled FROM token_usage_logs
                     WHERE operation = 'model_call' AND user_id LIKE ?1 || '%'",
                )
                .expect("the ledger");
            let rows = select.query_map([mark], |row| {
                let of = Row {
                    user: row.get(1)?,
                    tokens: row.get::<_, i64>(2)?.unsigned_abs(),
                    source: row.get(3)?,
                    settled: row.get::<_, i64>(4)?.unsigned_abs(),
                };
                Ok((row.get::<_, String>(0)?, of))
            });
            for row in rows.expect("rows") {
                let (id, row) = row.expect("a row");
                assert!(all.insert(id, row).is_none(), "in one ledger only");
            }
        }
        all
    }

    /// What the counters say that somebody has used, and what is held.
    pub(crate) async fn standing(
        &self,
        kit: &Kit,
        gateway: usize,
        name: &str,
    ) -> Result<(u64, u64)> {
        let token = kit.issuer().token(name).await?;
        let url = self.gateways[gateway].url("/api/quota");
        let answer = http::get(&url, Some(&token)).await?;
        let quota: Value = answer.expect_status(StatusCode::OK)?.json()?;
        let limits = quota["limits"].as_array().into_iter().flatten();
        let mut tokens = limits.filter(|limit| limit["dimension"] == "tokens");
        let tokens = tokens.next().unwrap_or(&Value::Null);
        let number = |name: &str| tokens[name].as_u64().unwrap_or(u64::MAX);
        Ok((number("used"), number("reserved")))
    }

    /// How many questions to the counters each gateway has answered since it started, and how many of them took longer than
    /// a decision may: its bound of 250 ms, and 50 more.
    pub(crate) async fn questions(&self) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        for gateway in &self.gateways {
            let metrics = http::get(&gateway.admin_url("/metrics"), None).await;
            let text = metrics.map(|answer| answer.text()).unwrap_or_default();
            let number = |name: &str| {
                let name = format!("gateway_quota_store_seconds_{name} ");
                let mut values = text.lines().filter_map(|line| line.strip_prefix(&*name));
                values.next().and_then(|value| value.parse().ok())
            };
            // Nothing was asked yet.
            let asked = number("count").unwrap_or(0);
            let in_time: u64 = number("bucket{le=\"0.3\"}").unwrap_or(0);
            all.push((asked, asked - in_time));
        }
        all
    }
}

// === impl Caller ===

impl Caller {
    /// A call that may take so many tokens: its answer, or `None` if the gateway was not there.
    pub(crate) async fn call(&self, message: &str, most: u64) -> Option<http::Response> {
        let message = format!("{} {message}", self.name);
        let body = json!({
            "model": "test-small", "max_tokens": most, "messages": [{"role": "user", "content": message}],
        });
        http::post(&self.url, Some(&self.key), &body).await.ok()
    }

    /// The same, again and again while quotas cannot be checked.
    pub(crate) async fn decided(&self, message: &str, most: u64) -> StatusCode {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            match self.call(message, most).await {
                Some(answer) if answer.status != StatusCode::SERVICE_UNAVAILABLE => {
                    return answer.status;
                }
                _ if Instant::now() > deadline => panic!("nothing is decided"),
                _ => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn connect(database_url: &str) -> Client {
    let connected = tokio_postgres::connect(database_url, NoTls).await;
    let (database, connection) = connected.expect("the database");
    tokio::spawn(connection);
    database
}

/// A thousand calls at once are a thousand connections.
fn raise_limits() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is too little shows itself.
    let _ = setrlimit(Resource::Nofile, limit);
}
