use super::{
    ask::{amount_of, amounts_of, dimension_of, window_of},
    members::RedisMembers,
};
use crate::{
    Amounts, Denied, Limit, Period, Standing, StoreError, Terms, Window,
    remote::{Level, parse_terms},
    unix_ms::UnixMs,
};

/// What a script answers: a word, the server's time, and what belongs to the word.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) word: String,
    pub(super) now: UnixMs,
    rest: Vec<String>,
}

/// The counters of one subject's present periods.
pub(super) struct Counters(Vec<Counter>);

struct Counter {
    window: Window,
    period: Period,
    used: Amounts,
    reserved: Amounts,
}

// === impl Answer ===

impl Answer {
    pub(super) fn new(texts: Vec<String>) -> Result<Self, StoreError> {
        let mut texts = texts.into_iter();
        match (texts.next(), texts.next().as_deref().and_then(moment)) {
            (Some(word), Some(now)) => Ok(Self {
                word,
                now,
                rest: texts.collect(),
            }),
            _ => Err(unreadable()),
        }
    }

    fn text(&self, place: usize) -> Option<&str> {
        self.rest.get(place).map(|text| &**text)
    }

    /// The epoch that the server has, if it has one.
    pub(super) fn epoch(&self) -> &str {
        self.text(0).unwrap_or_default()
    }

    pub(super) fn members(&self) -> RedisMembers {
        let text = |place| self.text(place).unwrap_or_default().to_owned();
        let is_same_run = self.text(2) == Some("same");
        let states = self.rest.get(3..).unwrap_or_default().chunks(2);
        let states = states.filter_map(|state| match state {
            [name, state] => Some((name.clone(), state.clone())),
            _ => None,
        });
        RedisMembers::new(text(0), text(1), is_same_run, states.collect())
    }

    pub(super) fn amounts(&self) -> Result<Amounts, StoreError> {
        let amounts = self.text(0).and_then(amounts_of);
        amounts.ok_or_else(unreadable)
    }

    pub(super) fn terms(&self) -> Result<Terms, StoreError> {
        let terms = self.text(0).zip(self.text(1));
        terms
            .and_then(|(version, json)| parse_terms(version.parse().ok()?, json))
            .ok_or_else(unknown_terms)
    }

    /// The terms that the client did not know, each with the level of whom it is of.
    pub(super) fn stale(&self) -> Result<Vec<(usize, Terms)>, StoreError> {
        let terms = self.rest.chunks(3).map(|texts| {
            let [level, version, json] = texts else {
                return None;
            };
            let terms = parse_terms(version.parse().ok()?, json)?;
            Some((level.parse().ok()?, terms))
        });
        let terms: Option<Vec<_>> = terms.collect();
        terms.ok_or_else(unknown_terms)
    }

    pub(super) fn denied(&self) -> Result<Denied, StoreError> {
        let denied = || {
            let level = self.text(0)?.parse().ok()?;
            let dimension = dimension_of(self.text(1)?)?;
            let window = window_of(self.text(2)?)?;
            let period = Period::from_ms(moment(self.text(3)?)?, moment(self.text(4)?)?);
            let limit = amount_of(self.text(5)?)?;
            let used = amount_of(self.text(6)?)?;
            let reserved = amount_of(self.text(7)?)?;
            let denied = Denied::new(dimension, window, period, limit, used, reserved);
            Some(denied.at_level(level))
        };
        denied().ok_or_else(unreadable)
    }

    pub(super) fn counters(&self) -> Result<Counters, StoreError> {
        let counters = self.rest.chunks(5).map(|texts| {
            let [window, starts, ends, used, reserved] = texts else {
                return None;
            };
            Some(Counter {
                window: window_of(window)?,
                period: Period::from_ms(moment(starts)?, moment(ends)?),
                used: amounts_of(used)?,
                reserved: amounts_of(reserved)?,
            })
        });
        let counters: Option<Vec<_>> = counters.collect();
        counters.map(Counters).ok_or_else(unreadable)
    }
}

// === impl Counters ===

impl Counters {
    /// How each limit stands, with what is granted besides.
    pub(super) fn standings(
        &self,
        level: &Level,
        now: UnixMs,
    ) -> Result<Vec<Standing>, StoreError> {
        let standings = level.limits.iter().map(|limit| {
            let (window, dimension) = (limit.window(), limit.dimension());
            let counter = self.0.iter().find(|counter| counter.window == window)?;
            Some(Standing::new(
                Limit::new(dimension, window, level.allowance(limit, now)),
                counter.period,
                counter.used.get(dimension),
                counter.reserved.get(dimension),
            ))
        });
        let standings: Option<Vec<_>> = standings.collect();
        standings.ok_or_else(unreadable)
    }
}

pub(super) fn unreadable() -> StoreError {
    StoreError::new("Redis answered what cannot be read")
}

fn unknown_terms() -> StoreError {
    StoreError::new("Redis has terms that cannot be read")
}

fn moment(ms: &str) -> Option<UnixMs> {
    UnixMs::new(ms.parse().ok()?)
}
