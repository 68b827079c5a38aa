//! Whose limits count.

use std::time::Duration;

use crate::{
    Amounts, Charge,
    Dimension::{Calls, Cost, Tokens},
    Granted, Limit, Subject,
    Window::{Day, Hour, Month},
    laws::{
        LEASE, MakeStore,
        trial::{Trial, limits},
    },
};

/// What one subject uses is not missing for another.
pub async fn subjects_do_not_share(make: &impl MakeStore) {
    let plan = [Limit::at_most(Calls, Day, 1)];
    let trial = Trial::new("subjects_do_not_share", make, plan).await;

    for subject in ["a", "A", "a ", "", "a|b"] {
        call(&trial, subject).await;
        trial.stands(subject, (Calls, Day), (0, 1)).await;
        trial.refuse(&Charge::new(subject).exactly(Calls, 1)).await;
    }
}

/// Somebody who is blocked and is given more goes on with the next request.
pub async fn raising_a_limit_unblocks_at_once(make: &impl MakeStore) {
    let plan = [Limit::at_most(Calls, Day, 1)];
    let trial = Trial::new("raising_a_limit_unblocks_at_once", make, plan).await;
    let granted = call(&trial, "a").await;
    trial
        .settle(granted.ticket(), Amounts::new().calls(1))
        .await;
    trial.refuse(&Charge::new("a").exactly(Calls, 1)).await;

    let more = limits([Limit::at_most(Calls, Day, 2)]);
    trial.set_limits("a", more).await;
    call(&trial, "a").await;
    trial.stands("a", (Calls, Day), (1, 1)).await;
    trial.refuse(&Charge::new("a").exactly(Calls, 1)).await;
}

/// A limit may be lowered below what is used and held already.
pub async fn lowering_a_limit_below_what_is_used_refuses(make: &impl MakeStore) {
    let plan = [Limit::at_most(Calls, Day, 10)];
    let trial = Trial::new("lowering_a_limit_below_what_is_used_refuses", make, plan).await;
    let granted = call(&trial, "a").await;
    trial
        .settle(granted.ticket(), Amounts::new().calls(5))
        .await;
    let held = call(&trial, "a").await;

    let less = limits([Limit::at_most(Calls, Day, 2)]);
    trial.set_limits("a", less).await;
    let denied = trial.refuse(&Charge::new("a").exactly(Calls, 1)).await;
    trial.same("remaining", &denied.remaining(), &0);
    for standing in trial.standings("a").await {
        trial.same("remaining", &standing.remaining(), &Some(0));
    }
    trial.release(held.ticket()).await;
    trial.stands("a", (Calls, Day), (5, 0)).await;
}

/// Everything counts, limited or not, so that a new limit finds what its period has used.
pub async fn a_limit_set_later_counts_what_was_used_before(make: &impl MakeStore) {
    let law = "a_limit_set_later_counts_what_was_used_before";
    let trial = Trial::new(law, make, []).await;
    let granted = call(&trial, "a").await;
    trial
        .settle(granted.ticket(), Amounts::new().calls(1).tokens(70))
        .await;
    trial.same("standings", &trial.standings("a").await, &Vec::new());

    let new = limits([
        Limit::at_most(Tokens, Month, 100),
        Limit::at_most(Calls, Day, 9),
    ]);
    trial.set_limits("a", new).await;
    trial.stands("a", (Tokens, Month), (70, 0)).await;
    trial.stands("a", (Calls, Day), (1, 0)).await;
    trial.refuse(&Charge::new("a").exactly(Tokens, 31)).await;
}

/// However what was held before ends, it frees nothing of an hour that was not limited then.
pub async fn a_limit_set_later_holds_only_what_is_held_since(make: &impl MakeStore) {
    let law = "a_limit_set_later_holds_only_what_is_held_since";
    let trial = Trial::new(law, make, [Limit::unlimited(Calls, Month)]).await;
    let parents = || Subject::new("a").under("org");
    let five = Charge::new(parents()).exactly(Calls, 5);
    let before = [
        trial.admit(&five).await,
        trial.admit(&five).await,
        trial.admit(&five).await,
    ];
    for subject in parents().chain() {
        let hour = limits([Limit::at_most(Calls, Hour, 5)]);
        let terms = trial.terms(subject.clone()).await.limits(hour);
        trial.set_terms(subject, terms).await;
    }
    trial.admit(&five).await;
    let [released, settled, reclaimed] = before.map(Granted::into_ticket);
    trial.release(&released).await;
    trial.refuse(&five).await;
    trial.settle(&settled, Amounts::new()).await;
    trial.refuse(&five).await;
    trial.advance(LEASE - Duration::from_millis(1));
    trial.renew(&reclaimed).await;
    trial.stands(parents(), (Calls, Hour), (0, 5)).await;
    trial.advance(Duration::from_millis(1));
    // Of the last one the lease goes on.
    trial.stands(parents(), (Calls, Hour), (0, 0)).await;
    trial.admit(&five).await;
    trial.release(&reclaimed).await;
    trial.refuse(&five).await;
}

/// Limits of one's own take the place of the plan's for the same dimension and window, until they are taken away.
pub async fn own_limits_stand_in_the_place_of_the_plans(make: &impl MakeStore) {
    let plan = [
        Limit::at_most(Calls, Day, 0),
        Limit::at_most(Tokens, Day, 10),
    ];
    let law = "own_limits_stand_in_the_place_of_the_plans";
    let trial = Trial::new(law, make, plan).await;

    let own = [Limit::unlimited(Calls, Day), Limit::at_most(Cost, Month, 1)];
    trial.set_limits("a", limits(own)).await;
    call(&trial, "a").await;
    trial.refuse(&Charge::new("a").exactly(Tokens, 11)).await;
    trial.refuse(&Charge::new("a").exactly(Cost, 2)).await;
    let found = trial.standings("a").await;
    let found: Vec<_> = found.iter().map(|s| s.limit()).collect();
    let [calls, cost] = own;
    let [_, tokens] = plan;
    trial.same("limits", &found, &vec![calls, tokens, cost]);
    trial.refuse(&Charge::new("b").exactly(Calls, 1)).await;
    trial.set_limits("a", limits([])).await;
    trial.refuse(&Charge::new("a").exactly(Calls, 1)).await;
    trial.set_limits("never seen", limits([])).await;
    trial
        .refuse(&Charge::new("never seen").exactly(Calls, 1))
        .await;
}

/// Limits are shown as they are listed.
pub async fn standings_follow_the_order_of_the_limits(make: &impl MakeStore) {
    let plan = [
        Limit::at_most(Cost, Month, 3),
        Limit::unlimited(Tokens, Day),
        Limit::at_most(Cost, Day, 2),
    ];
    let trial = Trial::new("standings_follow_the_order_of_the_limits", make, plan).await;

    for subject in ["a", "never seen"] {
        let found = trial.standings(subject).await;
        let found: Vec<_> = found.iter().map(|s| s.limit()).collect();
        trial.same("limits", &found, &plan.to_vec());
        trial
            .reserve(&Charge::new("a").exactly(Calls, 1))
            .await
            .ok();
    }
}

async fn call(trial: &Trial, subject: &str) -> Granted {
    trial.admit(&Charge::new(subject).exactly(Calls, 1)).await
}
