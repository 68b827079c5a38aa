//! Clients that take nothing of what they have asked for.

use std::{fs, time::Duration};

use gateway_tests::error::Result;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep},
};

use crate::{PATIENCE, Place};

/// Types of frames (RFC 9113 section 6).
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

/// END_STREAM and END_HEADERS.
const WHOLE: u8 = 5;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let [_, length @ ..] = length.to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A hundred requests for what anybody may ask for, with this window for each answer.
fn requests(window: u32) -> Vec<u8> {
    let mut asked = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE; the window of all together is as large as one can be.
    let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
    asked.extend(frame(SETTINGS, 0, 0, &setting));
    asked.extend(frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
    // GET and https of the static table (RFC 7541), and a path.
    let block = [&[0x82, 0x87, 0x04, 13][..], b"/openapi.json"].concat();
    for n in 0..100 {
        asked.extend(frame(HEADERS, WHOLE, 2 * n + 1, &block));
    }
    asked
}

/// Resident memory of a process, in kB.
fn resident(process: rustix::process::Pid) -> u64 {
    let status = format!("/proc/{}/status", process.as_raw_nonzero());
    let status = fs::read_to_string(status).expect("a process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a line");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

#[tokio::test]
async fn d2_26_answers_that_nobody_takes_are_no_burden() -> Result<()> {
    let mut place = Place::new().await?;
    // Time enough to tell an end from a deadline.
    let text = &mut place.config.text;
    *text = text.replacen(
        "shutdown_timeout = \"10s\"",
        "shutdown_timeout = \"60s\"",
        1,
    );
    let mut gateway = place.start().await?;
    let tls = place.tls(&["h2"])?;
    let document = place.curl("/openapi.json", &["--http2"]).await;
    assert_eq!(document.said, "2 200");
    let process = gateway.process().id();
    let before = resident(process);

    // One by a window that is shut, one by a system that is full.
    let mut shut = tls.connect().await?;
    shut.write_all(&requests(0)).await.expect("it is sent");
    let mut full = tls.connect().await?;
    full.write_all(&requests(0x7fff_ffff))
        .await
        .expect("it is sent");
    sleep(Duration::from_secs(5)).await;
    let more = resident(process).saturating_sub(before);
    assert!(
        more < 8_192,
        "{more} kB for {} B, asked for often",
        document.body.len()
    );

    // Others are served all the time.
    let after = place.curl("/health", &["--http2"]).await;
    assert_eq!(after.said, "2 200");
    // Nor does the end of the gateway wait for them.
    gateway.signal(rustix::process::Signal::TERM);
    let told = Instant::now();
    assert!(gateway.ended().await?.success());
    assert!(told.elapsed() < PATIENCE / 2, "{:?}", told.elapsed());
    assert!(!gateway.log()?.contains("did not end in time"));
    drop((shut, full));
    Ok(())
}
