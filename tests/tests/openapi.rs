//! The API as its description has it: Schemathesis asks each route what the description says, and what it excludes, and
//! looks whether the answers are among those that are described.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{env, fs, path::Path, time::Duration};

use ::http::{Method, Request, StatusCode};
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway},
    http,
    kit::Kit,
    secret,
};
use serde_json::json;
use tokio::{process::Command, time::timeout};

/// Its settings: which checks, and how much of each route.
const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/schemathesis.toml");

/// It ends long before.
const LIMIT: Duration = Duration::from_secs(300);

/// What is asked.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// As nobody.
    All,
    Runs,
    AllButRuns,
    /// What is read about that user. In the other parts it is asked about whoever comes to its mind.
    About(&'a str),
}

/// Everything that is found to be otherwise than it is described, for whoever sends this header.
async fn differences(
    gateway: &Gateway,
    dir: &Path,
    header: &str,
    part: Part<'_>,
) -> Option<String> {
    let mut settings = fs::read_to_string(SETTINGS).expect("its settings");
    if let Part::About(user) = part {
        settings += &format!("[parameters]\n\"path.user_id\" = \"{user}\"\n");
    }
    let file = dir.join("schemathesis.toml");
    fs::write(&file, settings).expect("its settings");
    let program = env::var_os("GATEWAY_TEST_SCHEMATHESIS").expect("tests/run says where it is");
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .current_dir(dir)
        .arg("--config-file")
        .arg(file)
        .arg("run")
        .arg(gateway.url("/openapi.json"))
        .kill_on_drop(true);
    command.args(["--header", header]);
    if !matches!(part, Part::All) {
        // Those that it makes up would take the place of this one.
        command.arg("--generation-with-security-parameters=false");
    }
    command.args(match part {
        Part::All => &[][..],
        Part::Runs => &["--include-path-regex=^/v1/"],
        Part::AllButRuns => &["--exclude-path-regex=^/v1/"],
        // What changes them does so each time: tests/administration does it once.
        Part::About(_) => &[
            "--include-path-regex=user_id",
            "--exclude-method-regex=POST|PUT|DELETE",
        ],
    });
    let run = timeout(LIMIT, command.output()).await;
    let done = run.expect("it ends").expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    println!("{said}");
    // That nothing was asked is no success.
    let is_good = done.status.success() && said.contains("passed");
    (!is_good).then(|| said + &String::from_utf8_lossy(&done.stderr))
}

/// A gateway whose store is a Postgres, which keeps less than an SQLite file.
async fn start(kit: &Kit, dir: &Path) -> Result<Gateway> {
    let workspace = "[workspace]\nmaster_key_file = \"master\"\n";
    let mut config = Config::new(kit, dir)?.sharing_store(&kit.database().await?, None)?;
    config.text = config.text.replacen("[workspace]\n", workspace, 1);
    fs::write(dir.join("master"), secret::hex_key()?).expect("a master key");
    Gateway::start(config, dir).await
}

#[tokio::test]
async fn what_is_malformed_is_refused_in_the_apis_form() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gateway = start(&kit, dir.path()).await?;
    let token = kit.issuer().token("admin").await?;
    let (longest, large) = ("a".repeat(512), "x".repeat(3 << 20));
    let of = |name: &str, what: &str| format!("/api/admin/users/{name}/{what}");
    let kind_of_json = "application/json";
    for (method, path, kind, body, status) in [
        ("GET", "/api/admin/audit?who=%00".to_owned(), "", "", 400),
        ("GET", "/api/admin/users?after=a%00".to_owned(), "", "", 400),
        ("GET", of("%00", "quota"), "", "", 400),
        ("GET", of("%ff", "quota"), "", "", 400),
        ("DELETE", "/api/keys/%FF".to_owned(), "", "", 400),
        ("GET", "/v1/models/%00".to_owned(), "", "", 400),
        ("GET", "/v1/models/%ff".to_owned(), "", "", 404),
        ("POST", of(&longest, "disable"), "", "", 204),
        ("POST", of(&format!("{longest}a"), "disable"), "", "", 400),
        (
            "POST",
            of("a", "quota/reset"),
            kind_of_json,
            r#"{"\u0000":1}"#,
            400,
        ),
        (
            "POST",
            of("a", "identities"),
            kind_of_json,
            r#"{"provider":"corp","subject":"\u0000"}"#,
            400,
        ),
        ("POST", of("a", "identities"), "text/plain", "{}", 415),
        ("POST", of("a", "identities"), kind_of_json, &large, 413),
        ("POST", of("a", "identities"), kind_of_json, "{", 400),
        (
            "PUT",
            of("a", "quota"),
            kind_of_json,
            r#"{"version":18446744073709551616}"#,
            400,
        ),
        (
            "PUT",
            of("a", "quota"),
            kind_of_json,
            r#"{"version":18446744073709551615}"#,
            409,
        ),
        (
            "POST",
            of("a", "quota/grants"),
            kind_of_json,
            r#"{"dimension":"tokens","window":"day","amount":9223372036854775808,"expiresAt":"2100-01-01T00:00:00Z"}"#,
            400,
        ),
        (
            "POST",
            of("a", "quota/grants"),
            kind_of_json,
            r#"{"dimension":"tokens","window":"day","amount":1,"expiresAt":"+999999-01-01T00:00:00Z"}"#,
            400,
        ),
        (
            "GET",
            "/api/usage/records?limit=18446744073709551616".to_owned(),
            "",
            "",
            400,
        ),
        ("GET", "/api/usage?from=1-1-1".to_owned(), "", "", 400),
        ("GET", "/api/usage?from=0000-01-01".to_owned(), "", "", 200),
        ("GET", "/api/usage?to=9999-12-30".to_owned(), "", "", 400),
        ("GET", "/api/usage?to=9999-12-31".to_owned(), "", "", 400),
    ] {
        let mut request = Request::builder()
            .method(method)
            .uri(gateway.url(&path))
            .header("authorization", format!("Bearer {token}"));
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let answer = http::send(request, body.to_owned()).await?;
        let path: String = path.chars().take(80).collect();
        let text = answer.text();
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {text}");
        if status >= 400 {
            let error = answer.json()?;
            let code = error["error"]["code"].as_str().unwrap_or_default();
            assert!(!code.is_empty(), "{method} {path}: {text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_answer_is_one_that_is_described() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let gateway = start(&kit, dir).await?;
    let mut alice = Browser::new();
    let name = format!("alice-{}", secret::mark()?);
    alice.sign_in_at(&gateway, &name).await?;
    // There is something to tell of both.
    let initialize = gateway.url("/api/openclaw/initialize");
    let opened = alice.fetch(Method::POST, &initialize, "{}").await?;
    opened.expect_status(StatusCode::OK)?;
    let cookies = alice.cookies(&gateway.url("/"))?.unwrap_or_default();
    // Nobody, who has our page.
    let page = format!("Origin: {}", gateway.url(""));
    let user = format!("Cookie: {cookies}");
    let token = kit.issuer().token("admin").await?;
    let opened = http::post(&initialize, Some(&token), &json!({})).await?;
    opened.expect_status(StatusCode::OK)?;
    let administrator = format!("Authorization: Bearer {token}");
    let snapshots = gateway.url(&format!("/api/admin/users/{name}/snapshots"));
    let taken = http::post(&snapshots, Some(&token), &json!({})).await?;
    taken.expect_status(StatusCode::CREATED)?;
    for (header, part) in [
        (&*page, Part::All),
        // Before they have keys of their own that are none: OpenClaw tries for a while whether they are.
        (&*user, Part::Runs),
        (&*user, Part::AllButRuns),
        (&*administrator, Part::Runs),
        (&*administrator, Part::AllButRuns),
        (&*administrator, Part::About(&name)),
    ] {
        let differ = differences(&gateway, dir, header, part).await;
        assert_eq!(differ, None);
    }
    // They were let in.
    let keys = gateway.url("/api/keys");
    let keys = alice.fetch(Method::GET, &keys, "").await?;
    let keys = keys.expect_status(StatusCode::OK)?.json()?;
    assert_ne!(keys["keys"].as_array().map(Vec::len), Some(0));
    let audit = http::get(&gateway.url("/api/admin/audit"), Some(&token)).await?;
    let audit = audit.expect_status(StatusCode::OK)?.json()?;
    assert_ne!(audit["audit"].as_array().map(Vec::len), Some(0));
    Ok(())
}
