use std::{collections::VecDeque, time::Duration};

use crate::{
    Allowance, Amounts, Charge, Denied, Dimension, Limits, Released, Renewed, Settled, Standing,
    memory::counters::Counters, unix_ms::UnixMs,
};

/// How long a reservation that was given back is remembered.
const MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// How many reservations that were given back are remembered.
const MAX_GIVEN_BACK: usize = 1_024;

/// How many settled reservations are remembered.
const MAX_SETTLED: usize = 64;

/// One subject: its limits, what it used, and its reservations.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// `None`: those of the plan.
    limits: Option<Limits>,
    counters: Counters,
    /// In the order of their sequence numbers.
    held: VecDeque<Held>,
    /// No lease ends before this moment.
    next_lease_end: Option<UnixMs>,
    /// In the order in which they were given back.
    given_back: VecDeque<GivenBack>,
    /// In the order in which they were settled.
    settled: VecDeque<u64>,
}

/// A reservation.
#[derive(Debug)]
struct Held {
    sequence: u64,
    admitted_at: UnixMs,
    lease_end: UnixMs,
    amounts: Amounts,
}

/// A reservation that holds nothing any more, and may yet be settled.
#[derive(Debug)]
struct GivenBack {
    sequence: u64,
    admitted_at: UnixMs,
    forget_at: UnixMs,
}

// === impl Account ===

impl Account {
    /// `sequence` is greater than that of every reservation before.
    pub(super) fn reserve(
        &mut self,
        sequence: u64,
        charge: &Charge,
        plan: &Limits,
        now: UnixMs,
        lease_end: UnixMs,
    ) -> Result<Amounts, Denied> {
        self.reclaim(now);
        self.counters.open(now, now);
        let amounts = self.admit(charge, plan, now)?;
        self.counters.hold(now, amounts);
        self.held.push_back(Held {
            sequence,
            admitted_at: now,
            lease_end,
            amounts,
        });
        let next = self
            .next_lease_end
            .map_or(lease_end, |at| at.min(lease_end));
        self.next_lease_end = Some(next);
        Ok(amounts)
    }

    /// `sequence` is one that was given out.
    pub(super) fn settle(&mut self, sequence: u64, used: Amounts, now: UnixMs) -> Settled {
        self.reclaim(now);
        let (admitted_at, held) = if let Some(held) = self.take_held(sequence) {
            (held.admitted_at, held.amounts)
        } else if let Some(given_back) = self.take_given_back(sequence) {
            (given_back.admitted_at, Amounts::new())
        } else if self.settled.contains(&sequence) {
            return Settled::AlreadySettled;
        } else {
            return Settled::Forgotten;
        };
        self.counters.count(admitted_at, used);
        if self.settled.len() == MAX_SETTLED {
            self.settled.pop_front();
        }
        self.settled.push_back(sequence);
        Settled::Applied {
            overshoot: used.saturating_sub(held),
        }
    }

    pub(super) fn release(&mut self, sequence: u64, now: UnixMs) -> Released {
        self.reclaim(now);
        match self.take_held(sequence) {
            Some(held) => {
                self.remember(&held, now);
                Released::Applied
            }
            None => Released::NotHeld,
        }
    }

    pub(super) fn renew(&mut self, sequence: u64, now: UnixMs, lease_end: UnixMs) -> Renewed {
        self.reclaim(now);
        let index = self.find_held(sequence);
        match index.and_then(|index| self.held.get_mut(index)) {
            Some(held) => {
                held.lease_end = lease_end;
                Renewed::Applied
            }
            None => Renewed::NotHeld,
        }
    }

    pub(super) fn add_used(&mut self, admitted_at: UnixMs, used: Amounts, now: UnixMs) {
        self.counters.open(admitted_at, now);
        self.counters.count(admitted_at, used);
    }

    pub(super) fn set_limits(&mut self, limits: Option<Limits>) {
        self.limits = limits;
    }

    pub(super) fn standings(&mut self, plan: &Limits, now: UnixMs) -> Vec<Standing> {
        self.reclaim(now);
        let limits = self.limits.as_ref().unwrap_or(plan);
        limits
            .iter()
            .map(|limit| {
                let (window, dimension) = (limit.window(), limit.dimension());
                match self.counters.find(window, now) {
                    Some(counter) => Standing::new(
                        *limit,
                        counter.period,
                        counter.used.get(dimension),
                        counter.reserved.get(dimension),
                    ),
                    None => Standing::new(*limit, window.period_of(now), 0, 0),
                }
            })
            .collect()
    }

    /// Whether the account says nothing that a new one would not say.
    pub(super) fn is_idle(&mut self, now: UnixMs) -> bool {
        self.reclaim(now);
        self.limits.is_none()
            && self.held.is_empty()
            && self.given_back.iter().all(|g| g.forget_at <= now)
            && self.counters.are_idle(now)
    }

    /// What `charge` may hold, or the limit that refuses it.
    fn admit(&self, charge: &Charge, plan: &Limits, now: UnixMs) -> Result<Amounts, Denied> {
        // Without a limit there is still the end of the counter: what is held has to be taken off again exactly.
        let mut amounts = self.counters.room(now).min(wanted(charge));
        let mut refusal: Option<Denied> = None;
        for limit in self.limits.as_ref().unwrap_or(plan).iter() {
            let (window, dimension) = (limit.window(), limit.dimension());
            let (Allowance::AtMost(allowed), Some(counter)) =
                (limit.allowance(), self.counters.find(window, now))
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

    /// Gives back what is held under leases that have ended.
    fn reclaim(&mut self, now: UnixMs) {
        if self.next_lease_end.is_none_or(|end| now < end) {
            return;
        }
        for index in (0..self.held.len()).rev() {
            if self.held.get(index).is_some_and(|h| h.lease_end <= now)
                && let Some(held) = self.take_held_at(index)
            {
                self.remember(&held, now);
            }
        }
        self.next_lease_end = self.held.iter().map(|h| h.lease_end).min();
    }

    fn find_held(&self, sequence: u64) -> Option<usize> {
        self.held
            .binary_search_by_key(&sequence, |h| h.sequence)
            .ok()
    }

    fn take_held(&mut self, sequence: u64) -> Option<Held> {
        let index = self.find_held(sequence)?;
        self.take_held_at(index)
    }

    fn take_held_at(&mut self, index: usize) -> Option<Held> {
        let held = self.held.remove(index)?;
        self.counters.free(held.admitted_at, held.amounts);
        Some(held)
    }

    fn take_given_back(&mut self, sequence: u64) -> Option<GivenBack> {
        let index = self
            .given_back
            .iter()
            .position(|g| g.sequence == sequence)?;
        self.given_back.remove(index)
    }

    fn remember(&mut self, held: &Held, now: UnixMs) {
        while self.given_back.len() >= MAX_GIVEN_BACK
            || self.given_back.front().is_some_and(|g| g.forget_at <= now)
        {
            self.given_back.pop_front();
        }
        self.given_back.push_back(GivenBack {
            sequence: held.sequence,
            admitted_at: held.admitted_at,
            forget_at: now.saturating_add(MEMORY),
        });
    }
}

fn wanted(charge: &Charge) -> Amounts {
    Dimension::ALL
        .into_iter()
        .fold(Amounts::new(), |wanted, dimension| {
            wanted.with(dimension, charge.demanded(dimension).want)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Amounts = Amounts::new().calls(1);

    fn at(ms: u64) -> UnixMs {
        UnixMs::new(ms).unwrap()
    }

    fn reserve(account: &mut Account, sequence: u64, now: UnixMs) {
        let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
        let lease_end = now.saturating_add(Duration::from_secs(1));
        let held = account.reserve(sequence, &charge, &Limits::default(), now, lease_end);
        assert_eq!(held, Ok(CALL));
    }

    #[test]
    fn what_is_remembered_of_finished_reservations_is_bounded() {
        let mut account = Account::default();
        for sequence in 0..10_000 {
            reserve(&mut account, sequence, at(0));
            if sequence % 2 == 0 {
                account.settle(sequence, CALL, at(0));
            } else {
                account.release(sequence, at(0));
            }
        }

        assert_eq!(account.settled.len(), MAX_SETTLED);
        assert_eq!(account.given_back.len(), MAX_GIVEN_BACK);
        for (sequence, lawful) in [
            (0, Settled::Forgotten),
            (9_998, Settled::AlreadySettled),
            (1, Settled::Forgotten),
            (9_999, Settled::Applied { overshoot: CALL }),
        ] {
            assert_eq!(account.settle(sequence, CALL, at(0)), lawful, "{sequence}");
        }
    }

    #[test]
    fn what_was_given_back_is_forgotten_after_a_day() {
        let mut account = Account::default();
        reserve(&mut account, 0, at(0));
        account.release(0, at(0));
        assert!(!account.is_idle(at(0)));

        let next_day = at(0).saturating_add(MEMORY);
        reserve(&mut account, 1, next_day);
        account.release(1, next_day);

        let remembered: Vec<_> = account.given_back.iter().map(|g| g.sequence).collect();
        assert_eq!(remembered, [1]);
        assert!(account.is_idle(next_day.saturating_add(MEMORY)));
    }
}
