use std::{collections::VecDeque, time::Duration};

use crate::{
    Allowance, Amounts, Charge, Denied, Dimension, Grant, Limit, Limits, Plans, Standing, Terms,
    TimeZone, memory::counters::Counters, unix_ms::UnixMs,
};

/// How long a reservation that was given back is remembered.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// How many reservations that were given back are remembered.
const MAX_GIVEN_BACK: usize = 1_024;

/// How many settled reservations are remembered.
const MAX_SETTLED: usize = 64;

/// One subject: its terms, what it used, and which of its reservations are over.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// `None`: nothing special.
    own: Option<Box<Own>>,
    counters: Counters,
    /// In the order in which they were given back.
    given_back: VecDeque<GivenBack>,
    /// In the order in which they were settled.
    settled: VecDeque<u64>,
}

/// Terms, and the limits under them.
#[derive(Debug)]
struct Own {
    terms: Terms,
    limits: Limits,
}

/// A reservation that holds nothing any more, and may yet be settled.
#[derive(Debug)]
struct GivenBack {
    sequence: u64,
    admitted_at: UnixMs,
    forget_at: UnixMs,
}

/// What an account knows of a reservation that holds nothing.
pub(super) enum Over {
    /// It was given back, and was admitted then.
    GivenBack(UnixMs),
    Settled,
    Forgotten,
}

// === impl Account ===

impl Account {
    /// Opens the periods of this moment; in new ones reservations are held from `since` on.
    pub(super) fn open(&mut self, at: UnixMs, now: UnixMs, plans: &Plans, since: u64) {
        let (limits, zone) = match &self.own {
            Some(own) => (&own.limits, plans.zone_of(&own.terms)),
            None => (plans.default_limits(), plans.zone()),
        };
        self.counters.open(at, now, limits, zone, since);
    }

    /// What `charge` may hold of `most`, or the limit that refuses it. The periods of `now` are open.
    pub(super) fn admit(
        &self,
        charge: &Charge,
        most: Amounts,
        plans: &Plans,
        now: UnixMs,
    ) -> Result<Amounts, Denied> {
        // Without a limit there is still the end of the counter: what is held has to be taken off again exactly.
        let mut amounts = self.counters.room(now).min(most);
        let mut refusal: Option<Denied> = None;
        for limit in self.limits(plans).iter() {
            let (window, dimension) = (limit.window(), limit.dimension());
            let (Allowance::AtMost(allowed), Some(counter)) =
                (self.allowance(limit, now), self.counters.find(window, now))
            else {
                continue;
            };
            let standing = Denied::new(
                dimension,
                window,
                counter.period,
                allowed,
                counter.used.get(dimension),
                counter.reserved.get(dimension),
            );
            let left = standing.remaining();
            amounts = amounts.with(dimension, amounts.get(dimension).min(left));
            if left < charge.demanded(dimension).min
                && refusal.is_none_or(|r| r.resets_at() < standing.resets_at())
            {
                refusal = Some(standing);
            }
        }
        refusal.map_or(Ok(amounts), Err)
    }

    /// Sets `amounts` aside in the periods of `at`.
    pub(super) fn hold(&mut self, at: UnixMs, amounts: Amounts) {
        self.counters.hold(at, amounts);
    }

    /// Gives back the `amounts` that a reservation holds in the periods of `at`.
    pub(super) fn free(&mut self, at: UnixMs, amounts: Amounts, sequence: u64) {
        self.counters.free(at, amounts, sequence);
    }

    /// Counts what was `used` in the periods of `at`.
    pub(super) fn count(&mut self, at: UnixMs, used: Amounts) {
        self.counters.count(at, used);
    }

    pub(super) fn set_terms(&mut self, terms: Terms, plans: &Plans) -> bool {
        if self.terms().version() != terms.version() {
            return false;
        }
        let version = terms.version().saturating_add(1);
        self.own = Some(Box::new(Own {
            limits: plans.limits_of(&terms),
            terms: terms.at_version(version),
        }));
        true
    }

    pub(super) fn terms(&self) -> Terms {
        let own = self.own.as_ref();
        own.map(|own| own.terms.clone()).unwrap_or_default()
    }

    pub(super) fn standings(&self, plans: &Plans, now: UnixMs) -> Vec<Standing> {
        let standing = |limit: &Limit| {
            let (window, dimension) = (limit.window(), limit.dimension());
            let limit = Limit::new(dimension, window, self.allowance(limit, now));
            match self.counters.find(window, now) {
                Some(counter) => Standing::new(
                    limit,
                    counter.period,
                    counter.used.get(dimension),
                    counter.reserved.get(dimension),
                ),
                None => Standing::new(limit, window.period_of(now, self.zone(plans)), 0, 0),
            }
        };
        self.limits(plans).iter().map(standing).collect()
    }

    /// What became of a reservation that holds nothing. One that was given back is given out once.
    pub(super) fn take_over(&mut self, sequence: u64) -> Over {
        let mut given_back = self.given_back.iter();
        if let Some(index) = given_back.position(|g| g.sequence == sequence) {
            let given_back = self.given_back.remove(index);
            return given_back.map_or(Over::Forgotten, |g| Over::GivenBack(g.admitted_at));
        }
        match self.settled.contains(&sequence) {
            true => Over::Settled,
            false => Over::Forgotten,
        }
    }

    pub(super) fn remember_settled(&mut self, sequence: u64) {
        if self.settled.len() == MAX_SETTLED {
            self.settled.pop_front();
        }
        self.settled.push_back(sequence);
    }

    pub(super) fn remember_given_back(&mut self, sequence: u64, admitted_at: UnixMs, now: UnixMs) {
        while self.given_back.len() >= MAX_GIVEN_BACK
            || self.given_back.front().is_some_and(|g| g.forget_at <= now)
        {
            self.given_back.pop_front();
        }
        self.given_back.push_back(GivenBack {
            sequence,
            admitted_at,
            forget_at: now.saturating_add(MEMORY),
        });
    }

    /// Whether the account says nothing that a new one would not say.
    pub(super) fn is_idle(&self, now: UnixMs) -> bool {
        self.own.is_none()
            && self.given_back.iter().all(|g| g.forget_at <= now)
            && self.counters.are_idle(now)
    }

    /// What is given back, and how many are settled.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (Vec<u64>, usize) {
        let given_back = self.given_back.iter().map(|g| g.sequence);
        (given_back.collect(), self.settled.len())
    }

    fn limits<'a>(&'a self, plans: &'a Plans) -> &'a Limits {
        let own = self.own.as_ref();
        own.map_or(plans.default_limits(), |own| &own.limits)
    }

    fn zone<'a>(&'a self, plans: &'a Plans) -> &'a TimeZone {
        let own = self.own.as_ref();
        own.map_or(plans.zone(), |own| plans.zone_of(&own.terms))
    }

    /// What a limit allows with what is granted besides.
    fn allowance(&self, limit: &Limit, now: UnixMs) -> Allowance {
        let (Some(own), Allowance::AtMost(amount)) = (&self.own, limit.allowance()) else {
            return limit.allowance();
        };
        let grants = own.terms.grants().iter();
        let grants = grants.filter(|grant| grant.adds_to(limit, now));
        Allowance::AtMost(grants.map(Grant::amount).fold(amount, u64::saturating_add))
    }
}

/// What a charge would hold of each dimension.
pub(super) fn wanted(charge: &Charge) -> Amounts {
    Dimension::ALL
        .into_iter()
        .fold(Amounts::new(), |wanted, dimension| {
            wanted.with(dimension, charge.demanded(dimension).want)
        })
}
