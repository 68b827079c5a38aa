//! `gateway check-config` before the real servers: what works is said to, each thing that does not is named with what to do
//! about it, and whatever is found, nothing is changed.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    net::TcpListener,
    path::Path,
    time::{Duration, Instant},
};

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    other_issuer::OtherIssuer,
    port::free_address,
    process::Process,
    redis::Redis,
    secret,
    tls::make_certificate,
};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_postgres::NoTls;

/// How long a check may take, whoever is silent.
const BOUND: Duration = Duration::from_secs(30);

/// What a check has said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    text: String,
}

impl Said {
    /// Whether one line says all of it.
    fn has(&self, state: &str, about: &str, says: &str) -> bool {
        let start = format!("{state:<5}  {about}: ");
        let mut lines = self.text.lines();
        lines.any(|line| line.starts_with(&start) && line.contains(says))
    }
}

/// Checks a configuration that is written to a directory of its own, so that what the gateway keeps stays as it is.
async fn check(text: &str, arguments: &[&str]) -> Said {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("checked.toml");
    fs::write(&path, text).expect("a configuration");
    let binary = env::var_os("GATEWAY_BIN").expect("tests/run says which binary");
    let mut command = Command::new(binary);
    command
        .env_clear()
        .envs(env::vars_os().filter(|(name, _)| name == "PATH"))
        .args(["check-config", "--config"])
        .arg(&path)
        .args(arguments);
    let begun = Instant::now();
    let output = command.output().await.expect("it runs");
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    let text = [output.stdout, output.stderr].concat();
    Said {
        code: output.status.code(),
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

/// Every file below a directory, with what is in it.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let kind = path.symlink_metadata().expect("an entry").file_type();
        if kind.is_dir() {
            all.extend(content(&path));
        } else {
            // Of a socket that somebody has left there is only that it is there.
            let text = match kind.is_file() {
                true => fs::read(&path).expect("a file"),
                false => Vec::new(),
            };
            all.insert(path.display().to_string(), text);
        }
    }
    all
}

/// The files that are not as they were.
fn changes(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    let changed = names.filter(|name| before.get(*name) != after.get(*name));
    changed.cloned().collect()
}

/// Has Postgres do something, by the URL of a database.
async fn postgres(url: &str, statements: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres");
    let driver = tokio::spawn(connection);
    client.batch_execute(statements).await.expect(statements);
    drop(client);
    driver.await.expect("a task").expect("a connection");
}

/// How many tables there are in a database.
async fn tables(url: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres");
    tokio::spawn(connection);
    let counted = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    let row = client.query_one(counted, &[]).await.expect("a row");
    row.get(0)
}

/// The line of the file that begins so, in another way.
fn with_line(text: &str, start: &str, line: &str) -> String {
    let lines = text.lines().map(|old| match old.starts_with(start) {
        true => line,
        false => old,
    });
    let changed: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert_ne!(changed, text, "there is no line `{start}`");
    changed
}

#[tokio::test]
async fn what_works_is_said_to_and_nothing_is_made() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let redis = Redis::start(dir.path()).await?;
    let database = kit.database().await?;
    let kept = dir.path().join("gateway");
    fs::create_dir(&kept).expect("a directory");
    let config = Config::new(&kit, &kept)?;
    let text = config.sharing_store(&database, Some(&redis.url()))?.text;
    let before = content(&kept);
    let said = check(&text, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    for (state, about, says) in [
        ("ok", "server.public", "is free"),
        ("ok", "server.egress", "is free"),
        ("ok", "server.admin", "is free"),
        ("ok", "server.socket", "can be made"),
        ("ok", "issuer corp", "people can sign in"),
        ("ok", "store.path", "is made at the start"),
        (
            "ok",
            "store.database_url",
            "its tables are made at the start",
        ),
        ("note", "store.redis_url", "writes nothing to a disk"),
        ("ok", "workspace.root", "is made when somebody comes"),
        (
            "ok",
            "instance pool-1",
            "is configured as it must be (OpenClaw 20",
        ),
        ("ok", "provider openai", "its key was not tried"),
    ] {
        assert!(said.has(state, about, says), "{about}: {said:#?}");
    }
    assert_eq!(changes(&before, &content(&kept)), [""; 0]);
    assert_eq!(tables(&database).await, 0);
    let is_empty = "if redis.call('DBSIZE') == 0 then return redis.status_reply('EMPTY') end return 'not empty'";
    redis.command(&["EVAL", is_empty, "0"]).await?;
    for secret in secrets(&kit, &database, &redis.url()) {
        assert!(!said.text.contains(&secret), "{secret}: {said:#?}");
    }

    // The same as data.
    let said = check(&text, &["--json"]).await;
    let answer: Value = serde_json::from_str(&said.text).expect("JSON");
    assert_eq!(answer["state"], "ok");
    let checks = answer["checks"].as_array().expect("checks");
    assert!(
        checks
            .iter()
            .any(|check| check["about"] == "instance pool-1" && check["state"] == "ok")
    );

    // Of tables of another version it is said what would become of them.
    let schema = |version: u32| {
        format!(
            "DROP TABLE IF EXISTS gateway_schema; CREATE TABLE gateway_schema (version BIGINT NOT NULL); \
                 INSERT INTO gateway_schema VALUES ({version})"
        )
    };
    postgres(&database, &schema(1)).await;
    let older = check(&text, &[]).await;
    assert_eq!(older.code, Some(0), "{older:#?}");
    assert!(
        older.has(
            "note",
            "store.database_url",
            "of version 1 and would be migrated"
        ),
        "{older:#?}"
    );
    postgres(&database, &schema(999)).await;
    let newer = check(&text, &[]).await;
    assert_eq!(newer.code, Some(1), "{newer:#?}");
    assert!(
        newer.has("wrong", "store.database_url", "use the newer gateway"),
        "{newer:#?}"
    );
    assert_eq!(tables(&database).await, 1, "nothing is migrated");

    // Counters must not be thrown away.
    redis
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await?;
    let evicting = check(&text, &[]).await;
    assert_eq!(evicting.code, Some(1), "{evicting:#?}");
    let says = "maxmemory-policy is allkeys-lru; set `maxmemory-policy noeviction` in redis.conf";
    assert!(
        evicting.has("wrong", "store.redis_url", says),
        "{evicting:#?}"
    );
    Ok(())
}

/// What must not be shown.
fn secrets(kit: &Kit, database: &str, redis: &str) -> Vec<String> {
    let of_url = |url: &str| {
        let (before, _) = url.rsplit_once('@').expect("a password");
        let (_, password) = before.rsplit_once(':').expect("a password");
        password.to_owned()
    };
    vec![
        of_url(database),
        of_url(redis),
        kit.openclaw_password.clone(),
        kit.provider_key.clone(),
    ]
}

#[tokio::test]
async fn each_thing_that_is_broken_is_named_with_what_to_do() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let redis = Redis::start(dir.path()).await?;
    let database = kit.database().await?;
    let (kept, free) = (dir.path().join("gateway"), free_address()?);
    fs::create_dir(&kept).expect("a directory");
    let config = Config::new(&kit, &kept)?.sharing_store(&database, Some(&redis.url()))?;
    let (text, url) = (&config.text, &redis.url());
    let replaced = |old: &str, new: &str| {
        assert!(text.contains(old), "{old}");
        text.replacen(old, new, 1)
    };
    let own = |url: &str| url.rsplit_once('@').expect("a server").1.to_owned();
    // Two that take connections and say nothing, one that is somewhere else, and one that speaks TLS by a certificate of its own.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mute = silent.local_addr().expect("an address");
    let (certificate, key) = (dir.path().join("certificate"), dir.path().join("key"));
    make_certificate(&certificate, &key).await?;
    let tls = free_address()?;
    let mut server = Command::new("openssl");
    server
        .args(["s_server", "-quiet", "-www", "-accept"])
        .arg(tls.to_string());
    server.arg("-cert").arg(&certificate).arg("-key").arg(&key);
    let mut server = Process::spawn("openssl", server, dir.path().join("openssl.log"))?;
    let listens = || async move { tokio::net::TcpStream::connect(tls).await.is_ok() };
    server.ready_when(Duration::from_secs(20), listens).await?;
    let stranger = secret::mark()?.replace('-', "_");
    let role = format!(
        "CREATE ROLE {stranger} LOGIN PASSWORD 'p'; REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    );
    postgres(&database, &role).await;
    let password = &secrets(&kit, &database, url)[0];

    let cases: Vec<(&str, String, &str, &str)> = vec![
        (
            "no Postgres",
            replaced(&own(&database), &format!("{free}/gateway")),
            "store.database_url",
            "is it running there",
        ),
        (
            "a Postgres that hangs",
            replaced(&own(&database), &format!("{mute}/gateway")),
            "store.database_url",
            "does not answer",
        ),
        (
            "another password",
            replaced(password, "other"),
            "store.database_url",
            "look at user and password",
        ),
        (
            "no such database",
            replaced(&own(&database), &format!("{}x", own(&database))),
            "store.database_url",
            "createdb",
        ),
        (
            "a user without rights",
            replaced(
                &database,
                &format!("postgres://{stranger}:p@{}", own(&database)),
            ),
            "store.database_url",
            "may make no tables",
        ),
        (
            "no Redis",
            replaced(&own(url), &format!("{free}/0")),
            "store.redis_url",
            "is it running there",
        ),
        (
            "a Redis that hangs",
            replaced(&own(url), &format!("{mute}/0")),
            "store.redis_url",
            "is it running there",
        ),
        (
            "another password of Redis",
            replaced(url, &format!("redis://default:other@{}", own(url))),
            "store.redis_url",
            "refuses user or password",
        ),
        (
            "a slash too many",
            replaced(
                &format!("\"{}\"", kit.issuer),
                &format!("\"{}/\"", kit.issuer),
            ),
            "issuer corp",
            "without a slash at the end",
        ),
        (
            "no issuer",
            replaced(
                &format!("\"{}\"", kit.issuer),
                &format!("\"http://{free}\""),
            ),
            "issuer corp",
            "nobody listens there",
        ),
        (
            "something else",
            replaced(
                &format!("\"{}\"", kit.issuer),
                &format!("\"{}\"", kit.provider),
            ),
            "issuer corp",
            "must be what the provider calls its issuer",
        ),
        (
            "no instance",
            replaced(
                &format!("\"{}\"", kit.openclaw),
                &format!("\"http://{free}\""),
            ),
            "instance pool-1",
            "nobody listens there; start its OpenClaw",
        ),
        (
            "another password of the instance",
            replaced(&kit.openclaw_password, "other"),
            "instance pool-1",
            "must be what `gateway.auth.password` of its openclaw.json says",
        ),
        (
            "an instance that is configured otherwise",
            replaced(
                "mode = \"pool\"",
                "mode = \"pool\"\norigin = \"https://other.internal\"",
            ),
            "instance pool-1",
            "must be changed, in its openclaw.json: ",
        ),
        (
            "no provider",
            replaced(&kit.provider, &format!("http://{free}")),
            "provider openai",
            "nobody listens there",
        ),
        (
            "a certificate that nobody knows",
            replaced(&kit.provider, &format!("https://localhost:{}", tls.port())),
            "provider openai",
            "a CA that this host does not trust",
        ),
        (
            "a port that is taken",
            replaced(&config.public.to_string(), &mute.to_string()),
            "server.public",
            "taken by another process",
        ),
        (
            "an address of nobody",
            with_line(text, "public = ", "public = \"192.0.2.1:80\""),
            "server.public",
            "this host has no address",
        ),
        (
            "no place for the file",
            with_line(text, "path = ", "path = \"/no/such/gateway.db\""),
            "store.path",
            "`mkdir -p /no/such`",
        ),
        (
            "no place for workspaces",
            with_line(text, "root = ", "root = \"/no/such/users\""),
            "workspace.root",
            "`mkdir -p /no/such`",
        ),
        (
            "nobody's files",
            with_line(
                text,
                "root = ",
                "root = \"/tmp/users\"\nowner = \"no-such-user\"",
            ),
            "workspace.owner",
            "no user named",
        ),
        (
            "a webhook that is nowhere",
            format!(
                "{text}\n[alerts]\nwebhook_url = \"https://nowhere.invalid/canary\"\nwebhook_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n"
            ),
            "alerts.webhook_url",
            "nowhere.invalid",
        ),
        (
            "cells without a program",
            format!("{text}\n[cells]\ncommand = \"no-such-program\"\ntrust_each_other = true\n"),
            "cells.command",
            "install OpenClaw",
        ),
    ];
    let before = content(&kept);
    let shown = secrets(&kit, &database, url);
    for (what, text, about, says) in cases {
        let said = check(&text, &[]).await;
        assert_eq!(said.code, Some(1), "{what}: {said:#?}");
        assert!(said.has("wrong", about, says), "{what}: {said:#?}");
        let wrong = said
            .text
            .lines()
            .filter(|line| line.starts_with("wrong"))
            .count();
        assert_eq!(wrong, 1, "{what}: and nothing else: {said:#?}");
        for secret in shown.iter().map(String::as_str).chain(["canary"]) {
            assert!(!said.text.contains(secret), "{what}: {said:#?}");
        }
    }
    assert_eq!(changes(&before, &content(&kept)), [""; 0]);
    assert_eq!(tables(&database).await, 0);
    Ok(())
}

#[tokio::test]
async fn what_the_running_gateway_has_is_in_nobodys_way() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::new(&kit, dir.path())?;
    let text = config.text.clone();
    let mut gateway = Gateway::start(config, dir.path()).await?;
    let said = check(&text, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    let process = format!(
        "the gateway that runs, process {}",
        gateway.process().id().as_raw_nonzero()
    );
    for about in [
        "server.public",
        "server.egress",
        "server.admin",
        "server.socket",
    ] {
        assert!(said.has("ok", about, &process), "{about}: {said:#?}");
    }
    let file = format!("{process}, with tables of this version");
    assert!(said.has("ok", "store.path", &file), "{said:#?}");

    // Another one cannot have the same.
    let socket = dir.path().join("other.sock");
    let other = text.replacen(
        "[server]\n",
        &format!("[server]\nsocket = \"{}\"\n", socket.display()),
        1,
    );
    let said = check(&other, &[]).await;
    assert_eq!(said.code, Some(1), "{said:#?}");
    for about in ["server.public", "server.egress", "server.admin"] {
        assert!(
            said.has("wrong", about, "taken by another process"),
            "{about}: {said:#?}"
        );
    }
    assert!(
        said.has("wrong", "store.path", "is another gateway's"),
        "{said:#?}"
    );

    gateway.kill().await?;
    let before = content(dir.path());
    let said = check(&text, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.has("ok", "store.path", "can be opened"), "{said:#?}");
    assert_eq!(changes(&before, &content(dir.path())), [""; 0]);
    gateway.start_again().await?;
    // What one leaves that was killed is in nobody's way either.
    gateway.kill9().await?;
    let before = content(dir.path());
    let said = check(&text, &[]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.has("ok", "store.path", "can be opened"), "{said:#?}");
    assert_eq!(changes(&before, &content(dir.path())), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn an_issuer_is_asked_for_all_that_is_needed_of_it() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let issuer = OtherIssuer::start(&kit.install, dir.path()).await?;
    // It has a key from its first token on.
    issuer
        .mint("RS256", &json!({}), &json!({"sub": "a"}))
        .await?;
    let text = Config::new(&kit, dir.path())?.text;
    let (ours, its) = (
        format!("\"{}\"", kit.issuer),
        format!("\"{}\"", issuer.url()),
    );
    let text = text.replacen(&ours, &its, 1);
    let said = check(&text, &[]).await;
    assert!(
        said.has("ok", "issuer corp", "people can sign in"),
        "{said:#?}"
    );
    for (patch, says) in [
        (
            json!({"issuer": format!("{}/", issuer.url())}),
            "with a slash at the end (as Auth0 does)",
        ),
        (
            json!({"issuer": "https://elsewhere.example"}),
            "it calls itself `https://elsewhere.example`",
        ),
        (json!({"jwks_uri": null}), "names no `jwks_uri`"),
        (
            json!({"jwks_uri": format!("{}/userinfo", issuer.url())}),
            "/userinfo",
        ),
        (
            json!({"token_endpoint": null}),
            "names no `token_endpoint`, so that nobody can sign in",
        ),
    ] {
        issuer.change("discovery", &patch).await?;
        let said = check(&text, &[]).await;
        assert_eq!(said.code, Some(1), "{patch}: {said:#?}");
        assert!(said.has("wrong", "issuer corp", says), "{patch}: {said:#?}");
    }
    issuer.fail("discovery", 503, &json!({})).await?;
    let said = check(&text, &[]).await;
    assert!(
        said.has("wrong", "issuer corp", "answers with status 503"),
        "{said:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_file_alone_can_be_checked_and_one_that_is_wrong_ends_with_2() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = Config::new(&kit, dir.path())?.text;
    let nowhere = with_line(&text, "path = ", "path = \"/no/such/gateway.db\"");
    let said = check(&nowhere, &["--offline"]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(!said.text.contains("store.path:"), "{said:#?}");

    let wrong = text.replacen("[server]\n", "[server]\npublik = 1\n", 1);
    for arguments in [&[][..], &["--offline"]] {
        let said = check(&wrong, arguments).await;
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(
            said.text.contains("line 2") && said.text.contains("publik"),
            "{said:#?}"
        );
    }
    let said = check(&wrong, &["--json"]).await;
    assert_eq!(said.code, Some(2), "{said:#?}");
    let answer: Value = serde_json::from_str(&said.text).expect("JSON");
    assert_eq!(answer["state"], "wrong");
    let says = answer["checks"][0]["says"].as_str().expect("a sentence");
    assert!(says.contains("publik"), "{says}");
    Ok(())
}
