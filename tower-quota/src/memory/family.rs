use std::{
    collections::{HashMap, VecDeque},
    iter,
    sync::Arc,
};

use crate::{
    Amounts, Charge, Denied, Plans, Released, Renewed, Settled, Standing, Subject, Terms,
    memory::account::{Account, Over, wanted},
    unix_ms::UnixMs,
};

/// A subject that is part of nothing, all that is part of it, and what they hold: what is decided together.
#[derive(Debug, Default)]
pub(super) struct Family {
    root: Account,
    /// By their names.
    members: HashMap<Arc<str>, Account>,
    /// In the order of their sequence numbers.
    held: VecDeque<Held>,
    /// No lease ends before this moment.
    next_lease_end: Option<UnixMs>,
}

/// A reservation.
#[derive(Debug)]
struct Held {
    sequence: u64,
    admitted_at: UnixMs,
    lease_end: UnixMs,
    amounts: Amounts,
    /// `None`: the root itself.
    member: Option<Subject>,
}

// === impl Family ===

impl Family {
    /// `sequence` is greater than that of every reservation before.
    pub(super) fn reserve(
        &mut self,
        sequence: u64,
        charge: &Charge,
        plans: &Plans,
        now: UnixMs,
        lease_end: UnixMs,
    ) -> Result<Amounts, Denied> {
        self.reclaim(now);
        let subject = charge.subject();
        let mut amounts = wanted(charge);
        let mut refusal: Option<Denied> = None;
        self.each_of(subject, |level, account| {
            account.open(now, now, plans, sequence);
            match account.admit(charge, amounts, plans, now) {
                Ok(admitted) => amounts = admitted,
                Err(denied) if refusal.is_none_or(|r| r.resets_at() < denied.resets_at()) => {
                    refusal = Some(denied.at_level(level));
                }
                Err(_) => {}
            }
        });
        if let Some(denied) = refusal {
            return Err(denied);
        }
        self.each_of(subject, |_, account| account.hold(now, amounts));
        self.held.push_back(Held {
            sequence,
            admitted_at: now,
            lease_end,
            amounts,
            member: (!subject.is_root()).then(|| subject.clone()),
        });
        let next = self.next_lease_end;
        self.next_lease_end = Some(next.map_or(lease_end, |at| at.min(lease_end)));
        Ok(amounts)
    }

    /// `sequence` is one that was given out.
    pub(super) fn settle(
        &mut self,
        subject: &Subject,
        sequence: u64,
        used: Amounts,
        now: UnixMs,
    ) -> Settled {
        self.reclaim(now);
        let (admitted_at, held) = match self.take_held(subject, sequence) {
            Some(held) => (held.admitted_at, held.amounts),
            None => match self.account(subject).map(|own| own.take_over(sequence)) {
                Some(Over::GivenBack(admitted_at)) => (admitted_at, Amounts::new()),
                Some(Over::Settled) => return Settled::AlreadySettled,
                Some(Over::Forgotten) | None => return Settled::Forgotten,
            },
        };
        self.each_of(subject, |level, account| {
            account.count(admitted_at, used);
            if level == 0 {
                account.remember_settled(sequence);
            }
        });
        Settled::Applied {
            overshoot: used.saturating_sub(held),
        }
    }

    pub(super) fn release(&mut self, subject: &Subject, sequence: u64, now: UnixMs) -> Released {
        self.reclaim(now);
        match self.take_held(subject, sequence) {
            Some(held) => {
                let own = self.account_or_new(subject);
                own.remember_given_back(sequence, held.admitted_at, now);
                Released::Applied
            }
            None => Released::NotHeld,
        }
    }

    pub(super) fn renew(
        &mut self,
        subject: &Subject,
        sequence: u64,
        now: UnixMs,
        lease_end: UnixMs,
    ) -> Renewed {
        self.reclaim(now);
        let index = self.find_held(subject, sequence);
        match index.and_then(|index| self.held.get_mut(index)) {
            Some(held) => {
                held.lease_end = lease_end;
                // By a clock that was set back it ends sooner than it would have.
                self.next_lease_end = self.next_lease_end.map(|next| next.min(lease_end));
                Renewed::Applied
            }
            None => Renewed::NotHeld,
        }
    }

    pub(super) fn add_used(
        &mut self,
        subject: &Subject,
        admitted_at: UnixMs,
        used: Amounts,
        plans: &Plans,
        now: UnixMs,
    ) {
        // Whatever is held now was before.
        let since = self.held.back().map_or(0, |held| held.sequence + 1);
        self.each_of(subject, |_, account| {
            account.open(admitted_at, now, plans, since);
            account.count(admitted_at, used);
        });
    }

    pub(super) fn standings(
        &mut self,
        subject: &Subject,
        plans: &Plans,
        now: UnixMs,
    ) -> Vec<Standing> {
        self.reclaim(now);
        match self.account(subject) {
            Some(account) => account.standings(plans, now),
            None => Account::default().standings(plans, now),
        }
    }

    pub(super) fn terms(&mut self, subject: &Subject) -> Terms {
        let account = self.account(subject);
        account.map(|account| account.terms()).unwrap_or_default()
    }

    pub(super) fn set_terms(&mut self, subject: &Subject, terms: Terms, plans: &Plans) -> bool {
        self.account_or_new(subject).set_terms(terms, plans)
    }

    /// Whether the family says nothing that a new one would not say. Members that do not are dropped.
    pub(super) fn is_idle(&mut self, now: UnixMs) -> bool {
        self.reclaim(now);
        self.members.retain(|_, account| !account.is_idle(now));
        self.held.is_empty() && self.members.is_empty() && self.root.is_idle(now)
    }

    /// The subject and each of its parents, with its level.
    fn each_of(&mut self, subject: &Subject, mut work: impl FnMut(u8, &mut Account)) {
        let names = iter::once(subject.name()).chain(subject.parents());
        let mut level = 0;
        for member in names.take(subject.parents().len()) {
            work(level, self.member_or_new(member));
            level = level.saturating_add(1);
        }
        work(level, &mut self.root);
    }

    fn account(&mut self, subject: &Subject) -> Option<&mut Account> {
        match subject.is_root() {
            true => Some(&mut self.root),
            false => self.members.get_mut(subject.name()),
        }
    }

    fn account_or_new(&mut self, subject: &Subject) -> &mut Account {
        match subject.is_root() {
            true => &mut self.root,
            false => self.member_or_new(subject.name()),
        }
    }

    fn member_or_new(&mut self, name: &Arc<str>) -> &mut Account {
        self.members.entry(Arc::clone(name)).or_default()
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
                let own = match &held.member {
                    Some(member) => self.account_or_new(member),
                    None => &mut self.root,
                };
                own.remember_given_back(held.sequence, held.admitted_at, now);
            }
        }
        self.next_lease_end = self.held.iter().map(|h| h.lease_end).min();
    }

    /// Only under the name that it was made for.
    fn find_held(&self, subject: &Subject, sequence: u64) -> Option<usize> {
        let found = self.held.binary_search_by_key(&sequence, |h| h.sequence);
        found.ok().filter(|&index| {
            self.held.get(index).is_some_and(|held| match &held.member {
                Some(member) => member == subject,
                None => subject.is_root(),
            })
        })
    }

    fn take_held(&mut self, subject: &Subject, sequence: u64) -> Option<Held> {
        let index = self.find_held(subject, sequence)?;
        self.take_held_at(index)
    }

    fn take_held_at(&mut self, index: usize) -> Option<Held> {
        let held = self.held.remove(index)?;
        match &held.member {
            Some(member) => self.each_of(member, |_, account| {
                account.free(held.admitted_at, held.amounts, held.sequence);
            }),
            None => self
                .root
                .free(held.admitted_at, held.amounts, held.sequence),
        }
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Dimension;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    const CALL: Amounts = Amounts::new().calls(1);

    fn at(ms: u64) -> UnixMs {
        UnixMs::new(ms).unwrap()
    }

    fn alice() -> Subject {
        "alice".into()
    }

    fn reserve(family: &mut Family, sequence: u64, now: UnixMs) {
        let charge = Charge::new("alice").exactly(Dimension::Calls, 1);
        let lease_end = now.saturating_add(Duration::from_secs(1));
        let held = family.reserve(sequence, &charge, &Plans::default(), now, lease_end);
        assert_eq!(held, Ok(CALL));
    }

    #[test]
    fn what_is_remembered_of_finished_reservations_is_bounded() {
        let mut family = Family::default();
        for sequence in 0..10_000 {
            reserve(&mut family, sequence, at(0));
            if sequence % 2 == 0 {
                family.settle(&alice(), sequence, CALL, at(0));
            } else {
                family.release(&alice(), sequence, at(0));
            }
        }

        assert_eq!(family.root.remembered().1, 64);
        assert_eq!(family.root.remembered().0.len(), 1_024);
        for (sequence, lawful) in [
            (0, Settled::Forgotten),
            (9_998, Settled::AlreadySettled),
            (1, Settled::Forgotten),
            (9_999, Settled::Applied { overshoot: CALL }),
        ] {
            assert_eq!(
                family.settle(&alice(), sequence, CALL, at(0)),
                lawful,
                "{sequence}"
            );
        }
    }

    #[test]
    fn a_lease_that_was_renewed_by_a_clock_set_back_ends_by_that_clock() {
        let mut family = Family::default();
        reserve(&mut family, 0, at(10_000));
        assert_eq!(
            family.renew(&alice(), 0, at(0), at(1_000)),
            Renewed::Applied
        );

        assert_eq!(
            family.renew(&alice(), 0, at(1_000), at(2_000)),
            Renewed::NotHeld
        );
    }

    #[test]
    fn what_was_given_back_is_forgotten_after_a_day() {
        let mut family = Family::default();
        reserve(&mut family, 0, at(0));
        family.release(&alice(), 0, at(0));
        assert!(!family.is_idle(at(0)));

        let next_day = at(0).saturating_add(DAY);
        reserve(&mut family, 1, next_day);
        family.release(&alice(), 1, next_day);

        assert_eq!(family.root.remembered().0, [1]);
        assert!(family.is_idle(next_day.saturating_add(DAY)));
    }
}
