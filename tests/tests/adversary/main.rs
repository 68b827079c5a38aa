//! Bob tries everything with what is alice's: every method of the table and every one that the instance offers, every
//! slash command, every tool that his agent has, and HTTP. Nothing of hers is in any byte that he gets, and nothing
//! of hers changes.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod frames;
mod http;
mod instance;
mod people;
mod slash;
mod table;
mod tools;

use gateway_tests::error::Result;
use people::Two;

/// One gateway and two people for all that is tried, since they take longer to start than most of it takes to try.
#[tokio::test]
async fn d3_38_d3_39_whatever_bob_tries_nothing_of_alices_reaches_him_or_changes() -> Result<()> {
    let mut two = Two::meet().await?;
    two.alice_works().await?;
    two.say("she has worked");
    frames::tried(&mut two).await?;
    two.say("frames were tried");
    slash::tried(&mut two).await?;
    two.say("slash commands were tried");
    http::tried(&mut two).await?;
    two.say("HTTP was tried");
    instance::tried(&two).await?;
    two.say("the instance was tried");
    two.nothing_has_happened().await?;
    two.say("she was looked at");
    // At last, since he hears what he has said of hers himself.
    tools::tried(&mut two).await?;
    two.say("tools were tried");
    Ok(())
}
