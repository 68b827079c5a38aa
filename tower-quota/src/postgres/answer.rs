//! Answers as the server's functions give them.

use serde::Deserialize;

use super::question::window;
use crate::{Amounts, Denied, Dimension, Limit, Period, Standing, Window, unix_ms::UnixMs};

/// What the functions say; each says some of it.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Answer {
    /// What time it is at the server.
    pub(super) server: i64,
    /// The time that the store goes by.
    pub(super) now: u64,
    /// What is, or was, held.
    pub(super) held: Option<[u64; 3]>,
    pub(super) denied: Option<Refusal>,
    /// The levels of which the client knew other terms.
    pub(super) terms: Option<Vec<Stale>>,
    pub(super) counters: Option<Vec<Counter>>,
    pub(super) is_settled: bool,
    pub(super) is_held: bool,
    pub(super) is_set: bool,
    pub(super) version: u64,
    pub(super) text: Option<Box<str>>,
    pub(super) swept: u64,
}

#[derive(Deserialize)]
pub(super) struct Stale {
    pub(super) level: usize,
    pub(super) version: u64,
    pub(super) terms: Option<Box<str>>,
}

#[derive(Deserialize)]
pub(super) struct Refusal {
    level: u8,
    dimension: usize,
    window: u8,
    start: u64,
    end: u64,
    limit: u64,
    used: u64,
    held: u64,
}

/// What a period has used and holds.
#[derive(Deserialize)]
pub(super) struct Counter {
    window: u8,
    start: u64,
    end: u64,
    used: [u64; 3],
    held: [u64; 3],
}

// === impl Answer ===

impl Answer {
    pub(super) fn now(&self) -> UnixMs {
        moment(self.now)
    }

    pub(super) fn held(&self) -> Option<Amounts> {
        self.held.map(amounts)
    }

    /// How `limit` stands by the counters, if it has one.
    pub(super) fn standing(&self, limit: Limit) -> Option<Standing> {
        let mut counters = self.counters.iter().flatten();
        let counter = counters.find(|counter| counter.window == window(limit.window()))?;
        Some(Standing::new(
            limit,
            period(counter.start, counter.end),
            amounts(counter.used).get(limit.dimension()),
            amounts(counter.held).get(limit.dimension()),
        ))
    }
}

// === impl Refusal ===

impl Refusal {
    /// `None` if it is none of this version's.
    pub(super) fn denied(&self) -> Option<Denied> {
        let dimension = Dimension::ALL.get(self.dimension.checked_sub(1)?)?;
        let mut windows = Window::ALL.into_iter();
        let window = windows.find(|known| window(*known) == self.window)?;
        let period = period(self.start, self.end);
        let denied = Denied::new(*dimension, window, period, self.limit, self.used, self.held);
        Some(denied.at_level(self.level))
    }
}

fn period(start: u64, end: u64) -> Period {
    Period::from_ms(moment(start), moment(end))
}

fn moment(ms: u64) -> UnixMs {
    UnixMs::new(ms).unwrap_or(UnixMs::LAST)
}

const fn amounts([tokens, cost, calls]: [u64; 3]) -> Amounts {
    Amounts::new().tokens(tokens).nano_usd(cost).calls(calls)
}
