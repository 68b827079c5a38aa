//! The books: what people's work with the real OpenClaw takes, however it ends, is in the ledger once, is what the
//! provider bills for it, is what the quota has counted, and is what every route of the API tells.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod background;
mod balance;
mod csv;
mod limit;
mod own_key;
mod prices;
mod work;
mod world;

use gateway_tests::{error::Result, provider::Api};

use crate::{balance::balance, work::work, world::World};

async fn balances(api: Api) -> Result<()> {
    let world = World::start(api, |_, _| {}).await?;
    let (ann, ben) = (world.person("ann").await?, world.person("ben").await?);
    let (runs_of_ann, runs_of_ben) = tokio::try_join!(work(&world, &ann), work(&world, &ben))?;
    balance(&world, &ann, &ben, runs_of_ann).await?;
    balance(&world, &ben, &ann, runs_of_ben).await?;
    world.everything_is_somebodys(&[&ann, &ben]).await
}

#[tokio::test]
async fn d6_59_60_the_books_balance_whatever_becomes_of_chat_completions() -> Result<()> {
    balances(Api::Chat).await
}

#[tokio::test]
async fn d6_59_60_the_books_balance_whatever_becomes_of_anthropics_messages() -> Result<()> {
    balances(Api::Messages).await
}
