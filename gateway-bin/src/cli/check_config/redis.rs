//! What a Redis says of itself.

use std::collections::BTreeMap;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike as _;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand};
use tokio::time::timeout;

use super::ANSWER;
use super::report::Check;

/// The one policy under which no counter is thrown away.
const KEEPS_ALL: &str = "noeviction";

/// The first version with all commands that are used, by its numbers.
const OLDEST: (u32, u32) = (6, 2);

/// What matters of a server.
#[derive(Debug, Default, PartialEq)]
struct Server {
    version: String,
    is_replica: bool,
    /// `None`: it does not say.
    policy: Option<String>,
    /// Whether it writes to a disk; `None`: it does not say.
    persists: Option<bool>,
}

/// Connects to the server that `url` names; `address` is what may be shown of that.
pub(super) async fn check(key: &'static str, url: &str, address: &str) -> Vec<Check> {
    match timeout(ANSWER, look(url)).await {
        Ok(Ok(server)) => said(key, address, &server),
        Ok(Err(error)) => {
            let why = refused(&error);
            vec![Check::wrong(key, format!("Redis at {address}: {why}"))]
        }
        Err(_) => {
            let seconds = ANSWER.as_secs();
            let says = format!(
                "Redis at {address}: no answer within {seconds} seconds; is it running there, and may this host connect?"
            );
            vec![Check::wrong(key, says)]
        }
    }
}

async fn look(url: &str) -> Result<Server, Error> {
    let config = Config::from_url(url)?;
    let client = Builder::from_config(config)
        .with_performance_config(|config| config.default_command_timeout = ANSWER)
        .with_connection_config(|config| {
            config.connection_timeout = ANSWER;
            config.internal_command_timeout = ANSWER;
        })
        .build()?;
    let connection = client.init().await?;
    let found = ask(&client).await;
    let _ = client.quit().await;
    connection.abort();
    found
}

async fn ask(client: &Client) -> Result<Server, Error> {
    let command = |name: &'static str| CustomCommand::new_static(name, ClusterHash::Random, false);
    let info: String = client.custom(command("INFO"), Vec::<String>::new()).await?;
    let setting = async |name: &str| {
        let args = vec!["GET".to_owned(), name.to_owned()];
        // Services that run it for somebody do not always say.
        let answer: Result<Vec<String>, Error> = client.custom(command("CONFIG"), args).await;
        answer.ok()?.into_iter().nth(1)
    };
    let (policy, save) = (setting("maxmemory-policy").await, setting("save").await);
    Ok(read(&info, policy, save.as_deref()))
}

/// Reads the answer of `INFO`, lines of `name:value`.
fn read(info: &str, policy: Option<String>, save: Option<&str>) -> Server {
    let lines = info.lines().filter_map(|line| line.split_once(':'));
    let fields: BTreeMap<&str, &str> = lines.map(|(name, value)| (name, value.trim())).collect();
    let field = |name: &str| fields.get(name).copied();
    let appends = field("aof_enabled").map(|enabled| enabled == "1");
    let persists = match (appends, save) {
        (Some(true), _) => Some(true),
        (_, Some(save)) => Some(!save.is_empty()),
        _ => None,
    };
    Server {
        version: field("redis_version")
            .unwrap_or("of unknown version")
            .to_owned(),
        is_replica: field("role").is_some_and(|role| role != "master"),
        // Since 7.0 it is in INFO, too.
        policy: policy.or_else(|| field("maxmemory_policy").map(str::to_owned)),
        persists,
    }
}

fn said(key: &'static str, address: &str, server: &Server) -> Vec<Check> {
    let had = format!("Redis {} at {address} answers", server.version);
    let wrong = |why: String| vec![Check::wrong(key, format!("{had}, but {why}"))];
    if is_too_old(&server.version) {
        let (major, minor) = OLDEST;
        return wrong(format!("is too old: it must be {major}.{minor} or later"));
    }
    if server.is_replica {
        return wrong("is a replica, which takes no writes: name the primary server".to_owned());
    }
    // Sessions may be thrown away, at the price of signing in again.
    let counts = key == "store.redis_url";
    let mut checks = Vec::new();
    match server.policy.as_deref() {
        Some(KEEPS_ALL) => {}
        Some(policy) if counts => {
            return wrong(format!(
                "throws counters away when its memory is full: its maxmemory-policy is {policy}; set `maxmemory-policy {KEEPS_ALL}` in redis.conf"
            ));
        }
        Some(policy) => checks.push(Check::note(
            key,
            format!(
                "{had}; its maxmemory-policy is {policy}, so that people may be signed out when its memory is full; \
                 `maxmemory-policy {KEEPS_ALL}` in redis.conf keeps them"
            ),
        )),
        None => checks.push(Check::note(
            key,
            format!("{had}; it does not say its maxmemory-policy: see to it that it is {KEEPS_ALL}"),
        )),
    }
    if server.persists == Some(false) {
        checks.push(Check::note(
            key,
            format!(
                "{had}; it writes nothing to a disk, so that people are signed out when it is started again, and counters are \
                 read from the ledgers; `appendonly yes` in redis.conf changes that"
            ),
        ));
    }
    if checks.is_empty() {
        checks.push(Check::ok(key, had));
    }
    checks
}

fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < OLDEST,
        _ => false,
    }
}

/// Why it lets nobody in, and what to do. What the client says may hold an address, and no password.
fn refused(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Auth => "it refuses user or password: look at them in the URL".to_owned(),
        ErrorKind::Config | ErrorKind::Url => {
            "the URL is not Redis's: `redis://user:password@host:6379/0`".to_owned()
        }
        ErrorKind::Tls => format!(
            "TLS fails: {}; redis:// goes without, rediss:// with it",
            error.details()
        ),
        _ => format!(
            "{}; is it running there, and may this host connect?",
            error.details()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\n# Persistence\r\naof_enabled:0\r\n# Replication\r\nrole:master\r\n";

    fn states(key: &'static str, server: &Server) -> Vec<State> {
        let checks = said(key, "redis:6379", server).into_iter();
        checks.map(|check| check.state).collect()
    }

    #[test]
    fn what_it_says_is_read() {
        let policy = || Some(KEEPS_ALL.to_owned());
        let good = read(INFO, policy(), Some("3600 1"));
        assert_eq!(good.version, "7.0.15");
        assert_eq!(states("store.redis_url", &good), [State::Ok]);
        let in_memory = read(INFO, policy(), Some(""));
        assert_eq!(states("store.redis_url", &in_memory), [State::Note]);
        let appends = read(
            &INFO.replace("aof_enabled:0", "aof_enabled:1"),
            policy(),
            Some(""),
        );
        assert_eq!(states("store.redis_url", &appends), [State::Ok]);
        let replica = read(&INFO.replace("master", "slave"), policy(), None);
        assert_eq!(states("store.redis_url", &replica), [State::Wrong]);
        let old = read(&INFO.replace("7.0.15", "6.0.16"), policy(), None);
        assert_eq!(states("store.redis_url", &old), [State::Wrong]);
        let silent = read(INFO, None, None);
        assert_eq!(states("store.redis_url", &silent), [State::Note]);
    }

    #[test]
    fn counters_must_not_be_thrown_away_and_sessions_had_better_not() {
        let evicting = read(INFO, Some("allkeys-lru".to_owned()), Some("3600 1"));
        let counters = said("store.redis_url", "redis:6379", &evicting);
        assert_eq!(counters[0].state, State::Wrong);
        assert!(
            counters[0].says.contains("maxmemory-policy is allkeys-lru"),
            "{counters:?}"
        );
        assert_eq!(states("session.store_url", &evicting), [State::Note]);
    }
}
