//! The API as its description has it: Schemathesis asks each route what the description says, and what it excludes, and
//! looks whether the answers are among those that are described.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::{env, fs, path::Path, time::Duration};

use ::http::{Method, StatusCode};
use gateway_tests::{
    browser::Browser,
    error::Result,
    gateway::{Config, Gateway},
    kit::Kit,
    secret,
};
use tokio::{process::Command, time::timeout};

/// Its settings: which checks, and how much of each route.
const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/schemathesis.toml");

/// It ends long before.
const LIMIT: Duration = Duration::from_secs(300);

/// Everything that is found to be otherwise than it is described, for whoever sends this header, or none.
async fn differences(gateway: &Gateway, dir: &Path, header: Option<&str>) -> Option<String> {
    let program = env::var_os("GATEWAY_TEST_SCHEMATHESIS").expect("tests/run says where it is");
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .current_dir(dir)
        .arg("--config-file")
        .arg(SETTINGS)
        .arg("run")
        .arg(gateway.url("/openapi.json"))
        .kill_on_drop(true);
    command.args(header.iter().flat_map(|header| ["--header", header]));
    let run = timeout(LIMIT, command.output()).await;
    let done = run.expect("it ends").expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    println!("{said}");
    // That nothing was asked is no success.
    let is_good = done.status.success() && said.contains("passed");
    (!is_good).then(|| said + &String::from_utf8_lossy(&done.stderr))
}

#[tokio::test]
async fn every_answer_is_one_that_is_described() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let workspace = "[workspace]\nmaster_key_file = \"master\"\n";
    let mut config = Config::new(&kit, dir)?.sharing_store(&kit.database().await?, None)?;
    config.text = config.text.replacen("[workspace]\n", workspace, 1);
    fs::write(dir.join("master"), secret::hex_key()?).expect("a master key");
    let gateway = Gateway::start(config, dir).await?;
    let mut alice = Browser::new();
    alice
        .sign_in_at(&gateway, &format!("alice-{}", secret::mark()?))
        .await?;
    // There is something to tell of her.
    let status = gateway.url("/api/openclaw/status");
    let opened = alice.fetch(Method::GET, &status, "").await?;
    opened.expect_status(StatusCode::OK)?;
    let cookies = alice.cookies(&gateway.url("/"))?.unwrap_or_default();
    let user = format!("Cookie: {cookies}");
    let token = kit.issuer().token("admin").await?;
    let administrator = format!("Authorization: Bearer {token}");
    for header in [None, Some(&*user), Some(&*administrator)] {
        assert_eq!(differences(&gateway, dir, header).await, None);
    }
    Ok(())
}
