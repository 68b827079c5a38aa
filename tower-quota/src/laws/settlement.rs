//! How a reservation ends.

use crate::{
    Amounts, Charge,
    Dimension::Tokens,
    Granted, Limit, Released, Settled, Ticket,
    Window::{Day, Month},
    laws::{
        MakeStore,
        trial::{NOON, Trial, unix_ms},
    },
};

const PLAN: [Limit; 2] = [
    Limit::at_most(Tokens, Day, 100),
    Limit::at_most(Tokens, Month, 1_000),
];

/// Settling less than is held gives back the rest.
pub async fn settling_less_gives_back_the_rest(make: &impl MakeStore) {
    let trial = Trial::new("settling_less_gives_back_the_rest", make, PLAN).await;
    let granted = hold(&trial, 60).await;

    let settled = trial.settle(granted.ticket(), tokens(10)).await;
    trial.same("settled", &settled, &applied(0));
    trial.stands("a", (Tokens, Day), (10, 0)).await;
    trial.stands("a", (Tokens, Month), (10, 0)).await;
    hold(&trial, 90).await;
}

/// Settling more than is held counts all of it, even beyond the limit, and says how much more it was.
pub async fn settling_more_counts_in_full(make: &impl MakeStore) {
    let trial = Trial::new("settling_more_counts_in_full", make, PLAN).await;
    let granted = hold(&trial, 60).await;

    let settled = trial.settle(granted.ticket(), tokens(130)).await;
    trial.same("settled", &settled, &applied(70));
    trial.stands("a", (Tokens, Day), (130, 0)).await;
    trial.stands("a", (Tokens, Month), (130, 0)).await;
    let denied = trial.refuse(&Charge::new("a").exactly(Tokens, 1)).await;
    trial.same("remaining", &denied.remaining(), &0);
}

/// A settlement is counted once, whoever repeats it and with whatever amount.
pub async fn settling_twice_counts_once(make: &impl MakeStore) {
    let trial = Trial::new("settling_twice_counts_once", make, PLAN).await;
    let granted = hold(&trial, 10).await;

    trial.settle(granted.ticket(), tokens(7)).await;
    for again in [7, 9] {
        let settled = trial.settle(granted.ticket(), tokens(again)).await;
        trial.same("settled again", &settled, &Settled::AlreadySettled);
    }
    trial.stands("a", (Tokens, Day), (7, 0)).await;
}

/// A release gives back everything, once.
pub async fn releasing_gives_back_once(make: &impl MakeStore) {
    let trial = Trial::new("releasing_gives_back_once", make, PLAN).await;
    let granted = hold(&trial, 60).await;
    hold(&trial, 40).await;

    let released = trial.release(granted.ticket()).await;
    trial.same("released", &released, &Released::Applied);
    let released = trial.release(granted.ticket()).await;
    trial.same("released again", &released, &Released::NotHeld);
    trial.stands("a", (Tokens, Day), (0, 40)).await;
}

/// What was used stays used.
pub async fn releasing_what_is_settled_changes_nothing(make: &impl MakeStore) {
    let trial = Trial::new("releasing_what_is_settled_changes_nothing", make, PLAN).await;
    let granted = hold(&trial, 60).await;

    trial.settle(granted.ticket(), tokens(60)).await;
    let released = trial.release(granted.ticket()).await;
    trial.same("released", &released, &Released::NotHeld);
    trial.store().abandon(granted.ticket());
    trial.stands("a", (Tokens, Day), (60, 0)).await;
}

/// A settlement says what was used; a release before it was wrong, and does not make it free.
pub async fn what_was_released_can_still_be_settled(make: &impl MakeStore) {
    let trial = Trial::new("what_was_released_can_still_be_settled", make, PLAN).await;
    let granted = hold(&trial, 60).await;

    trial.release(granted.ticket()).await;
    let settled = trial.settle(granted.ticket(), tokens(50)).await;
    trial.same("settled", &settled, &applied(50));
    let settled = trial.settle(granted.ticket(), tokens(50)).await;
    trial.same("settled again", &settled, &Settled::AlreadySettled);
    trial.stands("a", (Tokens, Day), (50, 0)).await;
}

/// Abandoning gives back everything, at the latest when the lease has ended.
pub async fn abandoning_gives_back(make: &impl MakeStore) {
    let trial = Trial::new("abandoning_gives_back", make, PLAN).await;
    let granted = hold(&trial, 60).await;

    trial.store().abandon(granted.ticket());
    trial.advance(crate::laws::LEASE);
    trial.stands("a", (Tokens, Day), (0, 0)).await;
}

/// A ticket that this store never gave out counts nothing and frees nothing.
pub async fn an_unknown_ticket_changes_nothing(make: &impl MakeStore) {
    let trial = Trial::new("an_unknown_ticket_changes_nothing", make, PLAN).await;
    let granted = hold(&trial, 60).await;
    let id = granted.ticket().id();
    let mut strangers = vec![
        Ticket::new(id, "b", unix_ms(NOON)),
        Ticket::new(id, "never seen", unix_ms(NOON)),
    ];
    for bit in 0..u128::BITS {
        strangers.push(Ticket::new(id ^ (1 << bit), "a", unix_ms(NOON)));
    }

    for ticket in &strangers {
        let settled = trial.settle(ticket, tokens(5)).await;
        if settled != Settled::Forgotten {
            // A store need not tell whose each of its reservations was that are over.
            trial.same("settled", &settled, &Settled::Unknown);
        }
        let released = trial.release(ticket).await;
        trial.same("released", &released, &Released::NotHeld);
    }
    trial.stands("a", (Tokens, Day), (0, 60)).await;
    trial.stands("b", (Tokens, Day), (0, 0)).await;
    trial.stands("never seen", (Tokens, Day), (0, 0)).await;
}

/// The text of a ticket is all that somebody needs who settles elsewhere.
pub async fn a_ticket_settles_after_a_journey_as_text(make: &impl MakeStore) {
    let trial = Trial::new("a_ticket_settles_after_a_journey_as_text", make, PLAN).await;
    let subject = "auth0|ä.b%\n";
    let granted = trial.admit(&Charge::new(subject).exactly(Tokens, 60)).await;

    let ticket = granted.ticket().to_string().parse::<Ticket>();
    trial.same("ticket", &ticket.as_ref(), &Ok(granted.ticket()));
    if let Ok(ticket) = ticket {
        let settled = trial.settle(&ticket, tokens(60)).await;
        trial.same("settled", &settled, &applied(0));
    }
    trial.stands(subject, (Tokens, Day), (60, 0)).await;
}

async fn hold(trial: &Trial, amount: u64) -> Granted {
    trial.admit(&Charge::new("a").exactly(Tokens, amount)).await
}

fn tokens(amount: u64) -> Amounts {
    Amounts::new().tokens(amount)
}

fn applied(overshoot: u64) -> Settled {
    let overshoot = tokens(overshoot);
    Settled::Applied { overshoot }
}
