//! Records as lines: written in order or counted, and nobody waits.
#![cfg(feature = "json-lines")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may fail"
)]

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, mpsc},
};

use serde_json::Value;
use tower_usage::{JsonLines, Operation, Place, Sink, UsageRecord};

/// What was written.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    /// The users of the lines; `None` for one that is no record.
    fn users(&self) -> Vec<Option<String>> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                Some(line["userId"].as_str()?.to_owned())
            })
            .collect()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn record(lines: &Arc<JsonLines>, user: u32) {
    let record = UsageRecord::new(user.to_string().into(), Operation::ModelCall);
    Place::take(lines.clone() as Arc<dyn Sink>)
        .unwrap()
        .record(record);
}

fn users(range: std::ops::Range<u32>) -> Vec<Option<String>> {
    range.map(|user| Some(user.to_string())).collect()
}

#[test]
fn writes_every_record_in_order() {
    let page = Page::default();
    let lines = Arc::new(JsonLines::new(page.clone()).unwrap());
    for user in 0..2_000 {
        record(&lines, user);
    }
    drop(Place::take(lines.clone()).unwrap());
    lines.flush();
    assert_eq!(page.users(), users(0..2_000));
    assert_eq!(lines.dropped(), 0);
}

#[test]
fn is_written_to_the_end_when_it_is_dropped() {
    struct Ends(Page, mpsc::Sender<()>);
    impl Write for Ends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Drop for Ends {
        fn drop(&mut self) {
            let _ = self.1.send(());
        }
    }
    let (page, (sender, ended)) = (Page::default(), mpsc::channel());
    let lines = Arc::new(JsonLines::new(Ends(page.clone(), sender)).unwrap());
    for user in 0..100 {
        record(&lines, user);
    }
    drop(lines);
    ended.recv().unwrap();
    assert_eq!(page.users(), users(0..100));
}

/// Writes when it may.
struct Gated(Page, mpsc::Receiver<()>);

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.1.recv();
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn d5_55_what_finds_no_room_is_counted_and_nobody_waits() {
    let (page, (gate, closed)) = (Page::default(), mpsc::channel());
    let writer = Gated(page.clone(), closed);
    let lines = Arc::new(JsonLines::with_capacity(4, writer).unwrap());
    // With nothing written, all of these return.
    for user in 0..1_000 {
        record(&lines, user);
    }
    assert!(
        lines.dropped() >= 1_000 - 200,
        "only lines in the buffer and the queue were kept"
    );
    drop(gate);
    lines.flush();
    let written = page.users();
    assert_eq!(written[..4], users(0..4), "the first ones are kept");
    assert_eq!(written.len() as u64 + lines.dropped(), 1_000);
    record(&lines, 1_000);
    lines.flush();
    assert_eq!(page.users().last().unwrap().as_deref(), Some("1000"));
}

#[test]
fn rotates_between_two_records() {
    let (first, second) = (Page::default(), Page::default());
    let lines = Arc::new(JsonLines::new(first.clone()).unwrap());
    (0..50).for_each(|user| record(&lines, user));
    lines.replace(second.clone());
    (50..80).for_each(|user| record(&lines, user));
    lines.flush();
    assert_eq!(
        (first.users(), second.users()),
        (users(0..50), users(50..80))
    );
}

/// A disk that is full after so many bytes, until there is room.
struct Disk(Page, Arc<Mutex<usize>>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.1.lock().unwrap();
        let bytes = &bytes[..bytes.len().min(*room)];
        if bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *room -= bytes.len();
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_full_disk_does_not_take_is_counted_and_later_lines_are_whole() {
    let (page, room) = (Page::default(), Arc::new(Mutex::new(10)));
    let lines = Arc::new(JsonLines::new(Disk(page.clone(), room.clone())).unwrap());
    for user in 0..3 {
        record(&lines, user);
        lines.flush();
    }
    assert_eq!(lines.dropped(), 3);
    *room.lock().unwrap() = usize::MAX;
    for user in 3..5 {
        record(&lines, user);
        lines.flush();
    }
    assert_eq!(page.users(), [None, Some("3".into()), Some("4".into())]);
    assert_eq!(lines.dropped(), 3);
}

#[test]
fn a_writer_that_panics_takes_down_nothing_else() {
    struct Panics;
    impl Write for Panics {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("on purpose");
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Arc::new(JsonLines::new(Panics).unwrap());
    for user in 0..20 {
        record(&lines, user);
    }
    lines.flush();
    assert_eq!(lines.dropped(), 20);
    let page = Page::default();
    lines.replace(page.clone());
    record(&lines, 20);
    lines.flush();
    assert_eq!((page.users(), lines.dropped()), (users(20..21), 20));
}
