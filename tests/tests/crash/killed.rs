//! A gateway that is killed under load, on a disk that keeps what was written and on one that keeps only what was synced.

use std::time::Duration;

use ::http::StatusCode;
use gateway_tests::{error::Result, storage::Cut};
use tokio::time::{Instant, sleep};

use crate::{
    books::Books,
    load::Told,
    place::{Disk, Place, rounds},
};

/// A call that had ended so long before the gateway was killed is recorded as what it was.
const RECORDED: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_49_d6_59_a_gateway_that_is_killed_under_load_has_every_call_once() -> Result<()> {
    kill(Disk::Real).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_49_d6_59_a_gateway_whose_power_is_cut_has_every_call_once() -> Result<()> {
    kill(Disk::Faulty).await
}

async fn kill(disk: Disk) -> Result<()> {
    let mut place = Place::start(5, disk).await?;
    let (mut answered, mut ended, mut cuts) = (0, 0, Cut::default());
    let begun = Instant::now();
    let mut books = Books::default();
    for round in 0..rounds() {
        let load = place.load();
        sleep(Duration::from_millis(place.dice.roll(2_000))).await;
        let killed = Instant::now();
        let dice = std::sync::Arc::clone(&place.dice);
        // Nothing of what was not synced had reached the disk, or all of it, or pages of it.
        let keeps = || match round % 3 {
            0 => false,
            1 => dice.roll(2) == 0,
            _ => dice.roll(10) > 0,
        };
        let cut = place.crash(keeps).await?;
        cuts.writes += cut.writes;
        cuts.lost += cut.lost;
        cuts.kept += cut.kept;
        let told = load.stop().await;
        books = place.books().await?;
        let (in_round, ended_before) = compare(&told, &books, killed);
        (answered, ended) = (answered + in_round, ended + ended_before);
    }
    // And one that is not killed.
    let load = place.load();
    sleep(Duration::from_secs(1)).await;
    let told = load.stop().await;
    let estimated = (books.estimated, books.never_there);
    books = place.books().await?;
    let (in_round, ended_before) = compare(&told, &books, Instant::now() + RECORDED);
    (answered, ended) = (answered + in_round, ended + ended_before);
    assert_eq!((books.estimated, books.never_there), estimated);
    assert!(!place.gateway.log()?.contains("panicked"));
    println!(
        "\n{} kills of a gateway on a {disk:?} disk in {:.0?}, seed {}",
        rounds(),
        begun.elapsed(),
        place.dice.seed()
    );
    println!(
        "  answers read to the end {answered}, {ended} of them a second before the kill and before: all exact"
    );
    println!(
        "  calls in the provider's log {}: exact {}, failed {}, as they began {} ({:+} tokens)",
        books.calls, books.exact, books.failed, books.estimated, books.off
    );
    println!(
        "  begun and never at the provider {}, left before they began {}",
        books.never_there, books.withdrawn
    );
    if disk == Disk::Faulty {
        println!("  lost with the power: {cuts:?}");
        // In a few rounds chance may have it so that all was synced.
        assert!(
            cuts.writes > 0 || rounds() < 20,
            "nothing was there to be lost"
        );
    }
    Ok(())
}

/// How many answers came to their end, and how many of those so long before that they are recorded as what they were.
fn compare(told: &[Told], books: &Books, killed: Instant) -> (usize, usize) {
    let (mut answered, mut ended) = (0, 0);
    for told in told {
        let Some(status) = told.status else { continue };
        let is_known = matches!(status, StatusCode::OK | StatusCode::INTERNAL_SERVER_ERROR);
        assert!(is_known, "{status}: {}", told.text);
        answered += 1;
        let is_exact = books.find(&told.message);
        assert!(is_exact.is_some(), "an answer without a record: {told:?}");
        if told.at + RECORDED <= killed {
            ended += 1;
            // Without its id, a failure may be taken for another.
            let is_nameless = status != StatusCode::OK;
            assert!(is_exact == Some(true) || is_nameless, "{told:?}");
        }
    }
    (answered, ended)
}
