//! A disk that is full, or read-only, or fails to sync, and one day is not any more.

use std::time::Duration;

use ::http::StatusCode;
use gateway_tests::{error::Result, storage::Fault};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    load::{Caller, Told},
    place::{Disk, Place},
};

/// Takes two seconds.
const LONG: &str = "[[in=70]] [[out=50]] [[words=40]] [[chunk_delay=50]]";
const SHORT: &str = "[[in=7]] [[out=5]]";

/// One number for each API; [`Caller::say`] knows which.
const MESSAGES: u64 = 0;
const RESPONSES: u64 = 2;
const EMBEDDINGS: u64 = 4;
const CHAT: u64 = 6;

/// Long enough for the ledger to try to write a few times.
const LASTS: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_52_a_disk_that_is_full_read_only_or_broken_refuses_calls_and_loses_none() -> Result<()>
{
    let place = Place::start(2, Disk::Faulty).await?;
    for fault in [Fault::Full, Fault::ReadOnly, Fault::Unsyncable] {
        last(&place, fault).await?;
    }
    assert!(!place.gateway.log()?.contains("panicked"));
    Ok(())
}

/// Calls that are answered when it begins end as ever and are recorded once it is over; meanwhile none begins.
async fn last(place: &Place, fault: Fault) -> Result<()> {
    let before = place.calls().await?.len();
    let running = begin(place).await?;
    place.set(Some(fault))?;
    let begun = Instant::now();
    let refused = refuse(place).await?;
    let (status, said) = place.ready().await?;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    assert!(said.contains("\"ledger\""), "{said}");
    for told in running.join_all().await {
        assert_eq!(told.status, Some(StatusCode::OK), "{told:?}");
        let is_whole = ["[DONE]", "message_stop", "response.completed"];
        assert!(
            is_whole.iter().any(|end| told.text.contains(end)),
            "{told:?}"
        );
    }
    sleep(LASTS.saturating_sub(begun.elapsed())).await;
    let again = refuse(place).await?;
    assert_eq!(
        place.calls().await?.len(),
        before + 6,
        "none of those that were refused"
    );

    place.set(None)?;
    let begun = Instant::now();
    while place.ready().await?.0 != StatusCode::OK {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it is ready again"
        );
        sleep(Duration::from_millis(20)).await;
    }
    let healed = begun.elapsed();
    accept(place).await;
    let books = place.books().await?;
    let all = before + 6 + 4;
    assert_eq!((books.calls, books.exact), (all, all), "{books:?}");
    assert_eq!((books.estimated, books.never_there), (0, 0), "{books:?}");
    println!(
        "{fault:?}: 6 calls ended meanwhile, {} were refused, ready after {healed:.1?}",
        refused + again
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_52_d6_59_a_gateway_that_is_killed_while_the_disk_is_full_knows_what_had_begun()
-> Result<()> {
    let mut place = Place::start(2, Disk::Faulty).await?;
    let running = begin(&place).await?;
    place.set(Some(Fault::Full))?;
    refuse(&place).await?;
    running.join_all().await;
    // Their records are nowhere but in memory.
    place.gateway.kill9().await?;
    place.set(None)?;
    place.crash(|| false).await?;
    accept(&place).await;
    let books = place.books().await?;
    assert_eq!((books.calls, books.exact), (6 + 4, 4), "{books:?}");
    assert_eq!((books.estimated, books.never_there), (6, 0), "{books:?}");
    Ok(())
}

/// Calls that are being answered: two of each API that streams.
async fn begin(place: &Place) -> Result<JoinSet<Told>> {
    let before = place.calls().await?.len();
    let mut running = JoinSet::new();
    for person in &place.people {
        for api in [MESSAGES, RESPONSES, CHAT] {
            let caller = Caller::new(&place.gateway, person, &place.dice);
            running.spawn(async move { caller.say(api, true, LONG).await });
        }
    }
    while place.calls().await?.len() < before + 6 {
        sleep(Duration::from_millis(10)).await;
    }
    Ok(running)
}

/// Calls of every API are refused, in its form; answers how many were.
async fn refuse(place: &Place) -> Result<usize> {
    let mut count = 0;
    for person in &place.people {
        let caller = Caller::new(&place.gateway, person, &place.dice);
        for api in [MESSAGES, RESPONSES, EMBEDDINGS, CHAT] {
            let told = caller.say(api, false, SHORT).await;
            let body: Value = serde_json::from_str(&told.text).unwrap_or_default();
            let status = told.status.map_or(0, |status| status.as_u16());
            let said = match api {
                MESSAGES => (529, &body["error"]["type"], "overloaded_error"),
                _ => (503, &body["error"]["code"], "usage_ledger_full"),
            };
            assert_eq!(
                (status, said.1.as_str()),
                (said.0, Some(said.2)),
                "{told:?}"
            );
            count += 1;
        }
    }
    Ok(count)
}

/// A call of every API is answered.
async fn accept(place: &Place) {
    let caller = Caller::new(&place.gateway, &place.people[0], &place.dice);
    for api in [MESSAGES, RESPONSES, EMBEDDINGS, CHAT] {
        let told = caller.say(api, false, SHORT).await;
        assert_eq!(told.status, Some(StatusCode::OK), "{told:?}");
    }
}
