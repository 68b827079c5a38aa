//! What happens at midnight.

use crate::{
    Amounts, Charge,
    Dimension::Calls,
    Granted, Limit, Plans, Settled, TimeZone,
    Window::{self, Day, Hour, Minute, Month},
    laws::{
        MakeStore,
        trial::{NOON, Trial, limits, unix_ms},
    },
};

/// 2026-03-16T00:00:00Z.
const MIDNIGHT: u64 = 1_773_619_200_000;

/// 2026-04-01T00:00:00Z.
const FIRST_OF_APRIL: u64 = 1_775_001_600_000;

/// A day's allowance is used up until 23:59:59.999 UTC and there again at 00:00.
pub async fn a_day_ends_at_midnight_to_the_millisecond(make: &impl MakeStore) {
    let law = "a_day_ends_at_midnight_to_the_millisecond";
    ends_at(law, make, Day, MIDNIGHT).await;
}

/// A month's allowance is used up until the last millisecond of its last day.
pub async fn a_month_ends_with_its_last_day_to_the_millisecond(make: &impl MakeStore) {
    let law = "a_month_ends_with_its_last_day_to_the_millisecond";
    ends_at(law, make, Month, FIRST_OF_APRIL).await;
}

/// A request that is admitted before midnight and settled after it counts in the day before.
pub async fn what_is_in_flight_at_a_reset_counts_when_it_was_admitted(make: &impl MakeStore) {
    let plan = [
        Limit::at_most(Calls, Day, 1),
        Limit::at_most(Calls, Month, 10),
    ];
    let law = "what_is_in_flight_at_a_reset_counts_when_it_was_admitted";
    let trial = Trial::new(law, make, plan).await;

    trial.set_clock(MIDNIGHT - 1);
    let granted = call(&trial).await;
    trial.set_clock(MIDNIGHT);
    let settled = trial
        .settle(granted.ticket(), Amounts::new().calls(3))
        .await;
    let overshoot = Amounts::new().calls(2);
    trial.same("settled", &settled, &Settled::Applied { overshoot });
    trial.stands("a", (Calls, Day), (0, 0)).await;
    trial.stands("a", (Calls, Month), (3, 0)).await;
}

/// A new day's allowance is whole, whatever is still in flight from the day before.
pub async fn what_is_in_flight_at_a_reset_does_not_burden_the_new_period(make: &impl MakeStore) {
    let plan = [
        Limit::at_most(Calls, Day, 1),
        Limit::at_most(Calls, Month, 10),
    ];
    let law = "what_is_in_flight_at_a_reset_does_not_burden_the_new_period";
    let trial = Trial::new(law, make, plan).await;

    trial.set_clock(MIDNIGHT - 1);
    let before = call(&trial).await;
    trial.set_clock(MIDNIGHT);
    call(&trial).await;
    trial.stands("a", (Calls, Day), (0, 1)).await;
    trial.stands("a", (Calls, Month), (0, 2)).await;
    trial.release(before.ticket()).await;
    trial.stands("a", (Calls, Day), (0, 1)).await;
    trial.stands("a", (Calls, Month), (0, 1)).await;
}

/// Short windows end as long ones do.
pub async fn minutes_and_hours_end_to_the_millisecond(make: &impl MakeStore) {
    let law = "minutes_and_hours_end_to_the_millisecond";
    ends_at(law, make, Minute, NOON + 60_000).await;
    ends_at(law, make, Hour, NOON + 3_600_000).await;
}

/// A day ends where people live, and is an hour shorter where clocks are set forward in it.
pub async fn days_are_those_of_the_zone(make: &impl MakeStore) {
    let law = "days_are_those_of_the_zone";
    // 2026-03-29T00:00+01:00, the day on which Berlin's clocks are set forward, and the next midnight there.
    let (start, end) = (1_774_738_800_000, 1_774_821_600_000);
    for zone in ["Europe/Berlin", "europe/berlin"] {
        let Ok(zone) = TimeZone::named(zone) else {
            // Nobody's law: this machine has no such zone.
            return;
        };
        let plan = limits([Limit::at_most(Calls, Day, 1)]);
        let plans = Plans::new(plan).time_zone(zone);
        let trial = Trial::with_plans(law, make, plans).await;
        trial.set_clock(start - 1);
        call(&trial).await;
        trial.set_clock(start);
        let granted = call(&trial).await;
        trial
            .settle(granted.ticket(), Amounts::new().calls(1))
            .await;
        trial.set_clock(end - 1);
        let denied = trial.refuse(&Charge::new("a").exactly(Calls, 1)).await;
        trial.same("reset", &denied.resets_at(), &unix_ms(end));
        let hours = denied.period().length().as_secs() / 3_600;
        trial.same("hours of the day", &hours, &23);
        trial.set_clock(end);
        call(&trial).await;
    }
}

async fn ends_at(law: &'static str, make: &impl MakeStore, window: Window, end: u64) {
    let trial = Trial::new(law, make, [Limit::at_most(Calls, window, 1)]).await;
    let one = Amounts::new().calls(1);

    trial.set_clock(end - 1);
    let granted = call(&trial).await;
    trial.settle(granted.ticket(), one).await;
    let denied = trial.refuse(&Charge::new("a").exactly(Calls, 1)).await;
    trial.same("reset", &denied.resets_at(), &unix_ms(end));
    let wait = denied.retry_after(unix_ms(end - 1)).as_millis();
    trial.same("milliseconds to wait", &wait, &1);
    trial.set_clock(end);
    trial.stands("a", (Calls, window), (0, 0)).await;
    call(&trial).await;
}

async fn call(trial: &Trial) -> Granted {
    trial.admit(&Charge::new("a").exactly(Calls, 1)).await
}
