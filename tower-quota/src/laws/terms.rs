//! What is special about a subject.

use std::time::Duration;

use crate::{
    Amounts, Charge,
    Dimension::{Calls, Cost, Tokens},
    Grant, Limit, Plans, Terms, TimeZone,
    Window::{Day, Month},
    laws::{
        MakeStore,
        trial::{NOON, Trial, limits, unix_ms},
    },
};

/// Of two who read the same terms and change them, the second is told to read them again.
pub async fn the_second_of_two_who_change_them_notices(make: &impl MakeStore) {
    let law = "the_second_of_two_who_change_them_notices";
    let trial = Trial::new(law, make, []).await;
    for round in 0..3 {
        let read = trial.terms("a").await;
        trial.same("version", &read.version(), &round);
        let (first, second) = (read.clone().plan("x"), read.plan("y"));
        trial.same("first", &trial.set_terms("a", first).await, &true);
        trial.same("second", &trial.set_terms("a", second).await, &false);
        let plan = trial.terms("a").await.plan_name().cloned();
        trial.same("plan", &plan.as_deref(), &Some("x"));
    }
}

/// Everything of them is kept, to the greatest numbers and the oddest names.
pub async fn they_come_back_as_they_were_set(make: &impl MakeStore) {
    let trial = Trial::new("they_come_back_as_they_were_set", make, []).await;
    let own = [
        Limit::at_most(Tokens, Day, u64::MAX),
        Limit::at_most(Calls, Month, 0),
        Limit::unlimited(Cost, Day),
    ];
    let terms = Terms::default()
        .plan("\"\n\0plan 🦞")
        .limits(limits(own))
        .grant(Grant::new(Tokens, Day, u64::MAX, unix_ms(NOON + 1)))
        .grant(Grant::new(Tokens, Day, u64::MAX, unix_ms(NOON + 1)))
        .grant(Grant::new(Cost, Month, 1, unix_ms(u64::MAX >> 20)));
    let zone = TimeZone::named("America/Argentina/Buenos_Aires");
    let terms = zone.map_or(terms.clone(), |zone| terms.time_zone(zone));
    trial.set_terms("a", terms.clone()).await;
    trial.same("terms", &trial.terms("a").await, &terms.at_version(1));
    trial.same("others'", &trial.terms("b").await, &Terms::default());
}

/// A plan is named by the terms; one that nobody knows is the default one.
pub async fn another_plan_has_other_limits(make: &impl MakeStore) {
    let calls = |amount| limits([Limit::at_most(Calls, Day, amount)]);
    let plans = Plans::new(calls(0)).named("pro", calls(1));
    let trial = Trial::with_plans("another_plan_has_other_limits", make, plans).await;
    let call = Charge::new("a").exactly(Calls, 1);
    trial.refuse(&call).await;
    trial.change("a", |terms| terms.plan("pro")).await;
    trial.admit(&call).await;
    trial.refuse(&call).await;
    trial.change("a", |terms| terms.plan("unheard of")).await;
    let denied = trial.refuse(&call).await;
    trial.same("limit", &denied.limit(), &0);
}

/// Grants add up, to one limit each, and are over to the millisecond; what was used of them stays used.
pub async fn a_grant_adds_until_it_expires(make: &impl MakeStore) {
    let plan = [
        Limit::at_most(Calls, Day, 1),
        Limit::at_most(Calls, Month, 10),
        Limit::at_most(Tokens, Day, 0),
    ];
    let trial = Trial::new("a_grant_adds_until_it_expires", make, plan).await;
    let call = Charge::new("a").exactly(Calls, 1);
    let hour = Duration::from_secs(3_600);
    let until = unix_ms(NOON) + hour;
    let granted = |terms: Terms| {
        terms
            .grant(Grant::new(Calls, Day, 1, until))
            .grant(Grant::new(Calls, Day, 1, until))
            .grant(Grant::new(Calls, Day, 1, unix_ms(NOON)))
    };
    trial.change("a", granted).await;
    for _ in 0..3 {
        use_one(&trial).await;
    }
    let denied = trial.refuse(&call).await;
    trial.same("limit", &denied.limit(), &3);
    trial.refuse(&Charge::new("a").exactly(Tokens, 1)).await;
    let shown = trial.standings("a").await;
    let shown: Vec<_> = shown.iter().map(|s| s.limit()).collect();
    let [_, month, tokens] = plan;
    let day = Limit::at_most(Calls, Day, 3);
    trial.same("limits", &shown, &vec![day, month, tokens]);

    trial.advance(hour);
    let denied = trial.refuse(&call).await;
    trial.same("limit", &denied.limit(), &1);
    trial.same("remaining", &denied.remaining(), &0);
    trial
        .change("a", |terms| terms.retain_grants(|_| false))
        .await;
    trial.refuse(&call).await;
}

/// Who moves to another zone gets nothing twice: the day that has begun ends when it would have.
pub async fn another_zone_ends_no_period_and_begins_none_twice(make: &impl MakeStore) {
    let plan = [Limit::at_most(Calls, Day, 1)];
    let law = "another_zone_ends_no_period_and_begins_none_twice";
    let trial = Trial::new(law, make, plan).await;
    let call = Charge::new("a").exactly(Calls, 1);
    use_one(&trial).await;
    // At noon in UTC it is the next day on Kiritimati.
    for zone in ["Pacific/Kiritimati", "Pacific/Honolulu"] {
        let Ok(zone) = TimeZone::named(zone) else {
            // Nobody's law: this machine has no such zone.
            return;
        };
        trial.change("a", |terms| terms.time_zone(zone)).await;
        trial.refuse(&call).await;
    }
    let (midnight, hour) = (NOON + 43_200_000, 3_600_000);
    trial.set_clock(midnight - 1);
    trial.refuse(&call).await;
    trial.set_clock(midnight);
    use_one(&trial).await;
    // What is left of Honolulu's day.
    let denied = trial.refuse(&call).await;
    trial.same("reset", &denied.resets_at(), &unix_ms(midnight + 10 * hour));
    trial.set_clock(midnight + 10 * hour);
    use_one(&trial).await;
    let denied = trial.refuse(&call).await;
    trial.same("reset", &denied.resets_at(), &unix_ms(midnight + 34 * hour));
}

async fn use_one(trial: &Trial) {
    let granted = trial.admit(&Charge::new("a").exactly(Calls, 1)).await;
    trial
        .settle(granted.ticket(), Amounts::new().calls(1))
        .await;
}
