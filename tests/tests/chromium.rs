//! The real browser of the kit: that it is one, and that a script which fails says why.

use std::{fs, time::Duration};

use gateway_tests::{chromium::run_script, error::Result, kit::Kit, secret};

const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn somebody_signs_in_and_out_on_the_pages_of_the_issuer() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let account = secret::mark()?;
    let environment = [("ISSUER_URL", kit.issuer.as_str()), ("ACCOUNT", &account)];
    run_script(
        &kit.install,
        "browser-sign-in",
        &environment,
        dir.path(),
        LIMIT,
    )
    .await
}

#[tokio::test]
async fn a_script_that_fails_says_why_and_leaves_a_picture() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let environment = [
        ("ISSUER_URL", kit.issuer.as_str()),
        ("ACCOUNT", "Mallory Stranger"),
    ];
    let failed = run_script(
        &kit.install,
        "browser-sign-in",
        &environment,
        dir.path(),
        LIMIT,
    )
    .await
    .expect_err("no such person")
    .to_string();
    assert!(
        failed.contains("FAILED: Error: the issuer does not let Mallory Stranger in"),
        "{failed}"
    );
    let left = dir.path().join("browser/browser-sign-in-1-1.png");
    let picture = fs::read(left).expect("a picture");
    assert!(picture.starts_with(b"\x89PNG"));
    Ok(())
}
