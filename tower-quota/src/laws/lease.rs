//! Reservations whose holders died, and those that take long.

use std::time::Duration;

use crate::{
    Amounts, Charge,
    Dimension::Tokens,
    Granted, Limit, Released, Renewed, Settled,
    Window::{Day, Month},
    laws::{
        LEASE, MakeStore,
        trial::{NOON, Trial},
    },
};

const MILLISECOND: Duration = Duration::from_millis(1);

const PLAN: [Limit; 2] = [
    Limit::at_most(Tokens, Day, 100),
    Limit::at_most(Tokens, Month, 1_000),
];

/// What is held is held to the end of the lease and no longer, without anybody asking in between.
pub async fn a_lease_that_ends_gives_back(make: &impl MakeStore) {
    let trial = Trial::new("a_lease_that_ends_gives_back", make, PLAN).await;
    let granted = hold(&trial).await;

    trial.advance(LEASE - MILLISECOND);
    trial.stands("a", (Tokens, Day), (0, 100)).await;
    trial.refuse(&Charge::new("a").exactly(Tokens, 1)).await;
    trial.advance(MILLISECOND);
    hold(&trial).await;
    trial.stands("a", (Tokens, Day), (0, 100)).await;
    let released = trial.release(granted.ticket()).await;
    trial.same("released", &released, &Released::NotHeld);
}

/// A renewed lease lasts as long again from the moment of renewal.
pub async fn renewing_keeps(make: &impl MakeStore) {
    let trial = Trial::new("renewing_keeps", make, PLAN).await;
    let granted = hold(&trial).await;

    for _ in 0..3 {
        trial.advance(LEASE - MILLISECOND);
        let renewed = trial.renew(granted.ticket()).await;
        trial.same("renewed", &renewed, &Renewed::Applied);
    }
    trial.advance(LEASE - MILLISECOND);
    trial.stands("a", (Tokens, Day), (0, 100)).await;
    trial.advance(MILLISECOND);
    trial.stands("a", (Tokens, Day), (0, 0)).await;
}

/// A renewed lease ends by the clock that it was renewed by, also if that was set back and the lease would have lasted
/// longer.
pub async fn renewing_goes_by_a_clock_set_back(make: &impl MakeStore) {
    let trial = Trial::new("renewing_goes_by_a_clock_set_back", make, PLAN).await;
    let granted = hold(&trial).await;

    trial.set_clock(NOON - 5_000);
    let renewed = trial.renew(granted.ticket()).await;
    trial.same("renewed", &renewed, &Renewed::Applied);
    trial.advance(LEASE - MILLISECOND);
    trial.stands("a", (Tokens, Day), (0, 100)).await;
    trial.advance(MILLISECOND);
    trial.stands("a", (Tokens, Day), (0, 0)).await;
}

/// What was given back may be somebody else's by now.
pub async fn renewing_what_is_over_does_not_bring_it_back(make: &impl MakeStore) {
    let trial = Trial::new("renewing_what_is_over_does_not_bring_it_back", make, PLAN).await;
    let ended = hold(&trial).await;

    trial.advance(LEASE);
    let renewed = trial.renew(ended.ticket()).await;
    trial.same("renewed after its end", &renewed, &Renewed::NotHeld);
    let granted = hold(&trial).await;
    trial.settle(granted.ticket(), Amounts::new()).await;
    let renewed = trial.renew(granted.ticket()).await;
    trial.same("renewed when settled", &renewed, &Renewed::NotHeld);
    trial.stands("a", (Tokens, Day), (0, 0)).await;
}

/// After the lease has ended, and even on another day, a settlement counts once, in the windows of admission.
pub async fn a_late_settlement_counts_when_it_was_admitted(make: &impl MakeStore) {
    let trial = Trial::new("a_late_settlement_counts_when_it_was_admitted", make, PLAN).await;
    let used = Amounts::new().tokens(30);
    let all_of_it = Settled::Applied { overshoot: used };

    let granted = hold(&trial).await;
    trial.advance(LEASE);
    let other = hold(&trial).await;
    let settled = trial.settle(granted.ticket(), used).await;
    trial.same("settled on the same day", &settled, &all_of_it);
    trial.stands("a", (Tokens, Day), (30, 100)).await;

    trial.set_clock(NOON + 13 * 60 * 60 * 1_000);
    trial.stands("a", (Tokens, Day), (0, 0)).await;
    let settled = trial.settle(other.ticket(), used).await;
    trial.same("settled on the next day", &settled, &all_of_it);
    let settled = trial.settle(other.ticket(), used).await;
    trial.same("settled again", &settled, &Settled::AlreadySettled);
    trial.stands("a", (Tokens, Day), (0, 0)).await;
    trial.stands("a", (Tokens, Month), (60, 0)).await;
}

async fn hold(trial: &Trial) -> Granted {
    trial.admit(&Charge::new("a").exactly(Tokens, 100)).await
}
