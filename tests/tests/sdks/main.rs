//! The official SDKs of OpenAI and Anthropic, at the provider and through egress: they tell the same of each call as the
//! provider's log, and so does the ledger.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod ledger;
mod told;

use gateway_tests::{
    error::Result,
    gateway::{Config, Gateway, person_with_key},
    kit::Kit,
    ledger::settled,
    provider::Provider,
    secret,
};

use crate::told::{Place, agree, run_scripts};

#[tokio::test]
async fn sdks_tell_what_the_provider_has_written_down() -> Result<()> {
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let provider = Provider::start(["sk-a"]).await?;
    let place = Place {
        openai: &format!("{}/v1", provider.url()),
        anthropic: &provider.url(),
        key: "sk-a",
    };
    let mark = secret::mark()?;
    let (told, _) = run_scripts(&kit, &place, &mark, dir.path()).await?;
    let calls = provider.client().calls().await?;
    agree(&told, &calls, &mark);
    let left = calls
        .iter()
        .filter(|call| call.last_user.contains("-aborted:"));
    assert!(
        left.clone().count() > 3 && left.clone().all(|call| !call.finished),
        "they hang up"
    );
    Ok(())
}

#[tokio::test]
async fn through_egress_sdks_and_the_ledger_tell_what_the_provider_has_written_down() -> Result<()>
{
    let kit = Kit::from_env()?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = dir.path();
    let config = Config::new(&kit, dir)?.with_every_api(&kit, dir)?;
    let mut gateway = Gateway::start(config, dir).await?;
    gateway.kill().await?;
    let marks = [secret::mark()?, secret::mark()?];
    let [one, two] = [
        person_with_key(dir, &marks[0])?,
        person_with_key(dir, &marks[1])?,
    ];
    gateway.start_again().await?;

    let (openai, anthropic) = (
        gateway.egress_url("/openai/v1"),
        gateway.egress_url("/anthropic"),
    );
    let place = |key| Place {
        openai: &openai,
        anthropic: &anthropic,
        key,
    };
    let (one, two) = (place(&one), place(&two));
    let (first, second) = tokio::try_join!(
        run_scripts(&kit, &one, &marks[0], dir),
        run_scripts(&kit, &two, &marks[1], dir),
    )?;

    for (mark, (told, printed)) in marks.iter().zip([first, second]) {
        assert!(!printed.contains(&kit.provider_key), "the provider's key");
        let calls = kit.provider().calls_about(mark).await?;
        for call in &calls {
            assert_eq!(call.key, kit.provider_key, "{call:?}");
        }
        agree(&told, &calls, mark);
        let rows = settled(dir, mark, calls.len()).await?;
        // Answers that somebody has left are read on.
        ledger::compare(&kit.provider().calls_about(mark).await?, &rows);
    }
    assert!(!gateway.log()?.contains("panicked"));
    Ok(())
}
