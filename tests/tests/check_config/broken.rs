//! Each thing that a configuration names, broken in turn.

use std::{fs, net::TcpListener, time::Duration};

use gateway_tests::{
    error::Result, gateway::Config, kit::Kit, port::free_address, process::Process, redis::Redis,
    secret, tls::make_certificate,
};
use tokio::process::Command;

use crate::said::{changes, check, content, postgres, secrets, tables, with_line};

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
