//! What is admitted, and what it holds.

use std::{future::poll_fn, pin::Pin, task::Poll};

use crate::{
    Amounts, Charge, Demand,
    Dimension::{Calls, Cost, Tokens},
    Limit, Settled,
    Window::{Day, Month},
    laws::{MakeStore, trial::Trial},
};

/// Requests are admitted as long as what they demand is left, and refused from then on.
pub async fn admits_what_is_left_and_no_more(make: &impl MakeStore) {
    let plan = [Limit::at_most(Tokens, Day, 100)];
    let trial = Trial::new("admits_what_is_left_and_no_more", make, plan).await;

    trial.admit(&tokens("a", 60)).await;
    let denied = trial.refuse(&tokens("a", 41)).await;
    trial.same("what the refusal says is left", &denied.remaining(), &40);
    trial.admit(&tokens("a", 40)).await;
    trial.refuse(&tokens("a", 1)).await;
    trial.stands("a", (Tokens, Day), (0, 100)).await;
}

/// Of a thousand requests at once for the last unit, one is admitted.
///
/// All are under way before the first is awaited to its end. A store in this process should also be tried from
/// several threads.
pub async fn the_last_unit_goes_to_one_of_a_thousand(make: &impl MakeStore) {
    let plan = [Limit::at_most(Calls, Day, 1)];
    let trial = Trial::new("the_last_unit_goes_to_one_of_a_thousand", make, plan).await;
    let charge = Charge::new("a").exactly(Calls, 1);

    let mut pending: Vec<_> = (0..1_000).map(|_| trial.store().reserve(&charge)).collect();
    let mut admitted = 0;
    poll_fn(|cx| {
        pending.retain_mut(|answer| match Pin::new(answer).poll(cx) {
            Poll::Ready(answer) => {
                admitted += usize::from(answer.is_ok());
                false
            }
            Poll::Pending => true,
        });
        if pending.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;

    trial.same("admitted", &admitted, &1);
    trial.stands("a", (Calls, Day), (0, 1)).await;
}

/// Nobody has to be made known to the store before being limited.
pub async fn a_new_subject_is_limited_from_its_first_request(make: &impl MakeStore) {
    let plan = [Limit::at_most(Tokens, Day, 10)];
    let trial = Trial::new(
        "a_new_subject_is_limited_from_its_first_request",
        make,
        plan,
    )
    .await;

    trial.refuse(&tokens("never seen", 11)).await;
    trial.stands("never seen", (Tokens, Day), (0, 0)).await;
}

/// A limit of zero is not an absence of a limit.
pub async fn zero_allows_nothing(make: &impl MakeStore) {
    let plan = [Limit::at_most(Calls, Month, 0)];
    let trial = Trial::new("zero_allows_nothing", make, plan).await;

    let denied = trial.refuse(&Charge::new("a").exactly(Calls, 1)).await;
    trial.same("limit", &denied.limit(), &0);
    trial
        .refuse(&Charge::new("a").demand(Calls, Demand::something_left()))
        .await;
}

/// What is unlimited, by name or because no limit is listed, is admitted and counted.
pub async fn unlimited_refuses_nothing(make: &impl MakeStore) {
    let plan = [Limit::unlimited(Tokens, Day)];
    let trial = Trial::new("unlimited_refuses_nothing", make, plan).await;

    let much = u64::MAX / 4;
    for _ in 0..2 {
        let granted = trial.admit(&tokens("a", much).exactly(Cost, much)).await;
        let held = Amounts::new().tokens(much).nano_usd(much);
        trial.same("held", &granted.held(), &held);
    }
    trial.stands("a", (Tokens, Day), (0, 2 * much)).await;
    for standing in trial.standings("a").await {
        trial.same("remaining", &standing.remaining(), &None);
    }
}

/// A demand with less to take than it wants is admitted with what there is, if that is enough for it.
pub async fn holds_what_is_left_if_that_is_less(make: &impl MakeStore) {
    let plan = [
        Limit::at_most(Tokens, Day, 100),
        Limit::at_most(Tokens, Month, 70),
    ];
    let trial = Trial::new("holds_what_is_left_if_that_is_less", make, plan).await;
    let charge = Charge::new("a").demand(Tokens, Demand { min: 20, want: 50 });

    for lawful in [50, 20] {
        let held = trial.admit(&charge).await.held();
        trial.same("held", &held, &Amounts::new().tokens(lawful));
    }
    trial.refuse(&charge).await;
    trial.stands("a", (Tokens, Day), (0, 70)).await;
}

/// A demand may ask for what it does not hold.
pub async fn a_demand_for_something_left_holds_nothing(make: &impl MakeStore) {
    let plan = [Limit::at_most(Tokens, Day, 10)];
    let trial = Trial::new("a_demand_for_something_left_holds_nothing", make, plan).await;
    let something = Charge::new("a").demand(Tokens, Demand::something_left());

    let granted = trial.admit(&something).await;
    trial.same("held", &granted.held(), &Amounts::new());
    trial.admit(&tokens("a", 10)).await;
    trial.refuse(&something).await;
    let settled = trial
        .settle(granted.ticket(), Amounts::new().tokens(4))
        .await;
    let overshoot = Amounts::new().tokens(4);
    trial.same("settled", &settled, &Settled::Applied { overshoot });
}

/// One limit that refuses is enough, and then nothing is held of the others.
pub async fn all_limits_must_pass_and_a_refusal_changes_nothing(make: &impl MakeStore) {
    let plan = [
        Limit::at_most(Tokens, Day, 100),
        Limit::at_most(Tokens, Month, 1_000),
        Limit::at_most(Cost, Month, 5),
        Limit::at_most(Calls, Day, 10),
    ];
    let trial = Trial::new(
        "all_limits_must_pass_and_a_refusal_changes_nothing",
        make,
        plan,
    )
    .await;
    let charge = tokens("a", 10).exactly(Cost, 6).exactly(Calls, 1);

    let denied = trial.refuse(&charge).await;
    trial.same("code", &denied.code(), &"monthly_cost_exceeded");
    for limit in plan {
        trial
            .stands("a", (limit.dimension(), limit.window()), (0, 0))
            .await;
    }
    trial.admit(&charge.exactly(Cost, 5)).await;
}

/// A request that several limits refuse has to wait for the last of them.
pub async fn a_refusal_names_the_limit_that_is_reset_last(make: &impl MakeStore) {
    let plan = [
        Limit::at_most(Tokens, Day, 1),
        Limit::at_most(Tokens, Month, 2),
        Limit::at_most(Calls, Day, 0),
    ];
    let trial = Trial::new("a_refusal_names_the_limit_that_is_reset_last", make, plan).await;

    let denied = trial.refuse(&tokens("a", 3).exactly(Calls, 1)).await;
    trial.same("code", &denied.code(), &"monthly_tokens_exceeded");
    let denied = trial.refuse(&tokens("a", 2).exactly(Calls, 1)).await;
    trial.same("code", &denied.code(), &"daily_tokens_exceeded");
}

/// Counters stop at their end; what is held is taken off again exactly.
pub async fn the_greatest_amounts_neither_wrap_nor_panic(make: &impl MakeStore) {
    let plan = [
        Limit::unlimited(Tokens, Day),
        Limit::at_most(Cost, Day, u64::MAX),
    ];
    let trial = Trial::new("the_greatest_amounts_neither_wrap_nor_panic", make, plan).await;
    let all = Amounts::new().tokens(u64::MAX).nano_usd(u64::MAX);
    let charge = tokens("a", u64::MAX).demand(
        Cost,
        Demand {
            min: 0,
            want: u64::MAX,
        },
    );

    let first = trial.admit(&charge).await;
    trial.same("held", &first.held(), &all);
    let second = trial.admit(&charge).await;
    trial.same("held of a full counter", &second.held(), &Amounts::new());
    trial.release(second.ticket()).await;
    trial.stands("a", (Tokens, Day), (0, u64::MAX)).await;
    trial.settle(first.ticket(), all).await;
    trial.settle(second.ticket(), all).await;
    trial.stands("a", (Tokens, Day), (u64::MAX, 0)).await;
    trial.stands("a", (Cost, Day), (u64::MAX, 0)).await;
    trial.admit(&tokens("a", 1)).await;
    trial.refuse(&Charge::new("a").exactly(Cost, 1)).await;
}

fn tokens(subject: &str, amount: u64) -> Charge {
    Charge::new(subject).exactly(Tokens, amount)
}
