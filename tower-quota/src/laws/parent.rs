//! What subjects are part of.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use crate::{
    Amounts, Charge, Demand,
    Dimension::{Calls, Tokens},
    Limit, Settled, Subject,
    Window::{Day, Month},
    laws::{
        LEASE, MakeStore,
        trial::{Trial, limits},
    },
};

fn member(name: &str) -> Subject {
    Subject::new(name).under("team").under("org")
}

fn calls(subject: Subject, amount: u64) -> Charge {
    Charge::new(subject).exactly(Calls, amount)
}

/// Gives a parent limits of its own.
async fn limit(trial: &Trial, subject: Subject, limit: Limit) {
    let terms = trial.terms(subject.clone()).await;
    let terms = terms.limits(limits([limit]));
    trial.same(
        "terms were set",
        &trial.set_terms(subject, terms).await,
        &true,
    );
}

/// One limit of one parent that refuses is enough; then nothing is held of anybody, and the refusal says whose it is.
pub async fn all_limits_of_all_parents_must_pass(make: &impl MakeStore) {
    let plan = [Limit::at_most(Calls, Day, 10)];
    let law = "all_limits_of_all_parents_must_pass";
    let trial = Trial::new(law, make, plan).await;
    let (team, org) = (Subject::new("team").under("org"), Subject::new("org"));
    limit(&trial, team.clone(), Limit::at_most(Calls, Month, 2)).await;
    limit(&trial, org.clone(), Limit::at_most(Calls, Day, 3)).await;

    trial.admit(&calls(member("a"), 1)).await;
    trial.admit(&calls(member("b"), 1)).await;
    let denied = trial.refuse(&calls(member("c"), 1)).await;
    trial.same("level", &denied.level(), &1);
    trial.same("code", &denied.code(), &"monthly_calls_exceeded");
    trial.stands(member("c"), (Calls, Day), (0, 0)).await;
    trial.stands(org.clone(), (Calls, Day), (0, 2)).await;

    let other = Subject::new("d").under("org");
    trial.admit(&calls(other.clone(), 1)).await;
    let denied = trial.refuse(&calls(other, 1)).await;
    trial.same("level", &denied.level(), &1);
    let denied = trial.refuse(&calls(org, 1)).await;
    trial.same("level", &denied.level(), &0);
    trial.stands(team, (Calls, Month), (0, 2)).await;
    let wants = Charge::new(member("a")).demand(Calls, Demand { min: 0, want: 5 });
    let granted = trial.admit(&wants).await;
    trial.same("held", &granted.held(), &Amounts::new());
}

/// Members who come at once for the last unit of what they share get it once.
pub async fn the_last_unit_of_a_parent_goes_to_one_of_a_thousand(make: &impl MakeStore) {
    let plan = [Limit::at_most(Calls, Day, 1)];
    let law = "the_last_unit_of_a_parent_goes_to_one_of_a_thousand";
    let trial = Trial::new(law, make, plan).await;
    let mut pending: Vec<_> = (0..1_000)
        .map(|n| trial.store().reserve(&calls(member(&format!("{n}")), 1)))
        .collect();
    let mut admitted = 0;
    poll_fn(|cx| {
        pending.retain_mut(|answer| match Pin::new(answer).poll(cx) {
            Poll::Ready(answer) => {
                admitted += usize::from(answer.is_ok());
                false
            }
            Poll::Pending => true,
        });
        match pending.is_empty() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    trial.same("admitted", &admitted, &1);
    trial
        .stands(Subject::new("org"), (Calls, Day), (0, 1))
        .await;
}

/// A settlement counts for all, once, wherever the ticket has been.
pub async fn what_members_use_counts_for_their_parents(make: &impl MakeStore) {
    let plan = [Limit::at_most(Tokens, Day, 100)];
    let law = "what_members_use_counts_for_their_parents";
    let trial = Trial::new(law, make, plan).await;
    let tokens = |amount| Charge::new(member("a")).exactly(Tokens, amount);
    let granted = trial.admit(&tokens(60)).await;
    let released = trial.admit(&tokens(40)).await;
    trial.release(released.ticket()).await;
    for subject in member("a").chain() {
        trial.stands(subject, (Tokens, Day), (0, 60)).await;
    }
    let Ok(ticket) = granted.ticket().to_string().parse() else {
        return trial.same("a ticket's text is a ticket", &false, &true);
    };
    let used = Amounts::new().tokens(70);
    let overshoot = Amounts::new().tokens(10);
    let settled = trial.settle(&ticket, used).await;
    trial.same("settled", &settled, &Settled::Applied { overshoot });
    let again = trial.settle(&ticket, used).await;
    trial.same("settled again", &again, &Settled::AlreadySettled);
    for subject in member("a").chain() {
        trial.stands(subject, (Tokens, Day), (70, 0)).await;
    }
    trial.stands(member("b"), (Tokens, Day), (0, 0)).await;
    trial
        .refuse(&Charge::new(member("b")).exactly(Tokens, 31))
        .await;
}

/// What somebody held who died is free for the others of the organisation.
pub async fn a_lease_that_ends_gives_back_to_the_parents(make: &impl MakeStore) {
    let plan = [Limit::at_most(Calls, Day, 1)];
    let law = "a_lease_that_ends_gives_back_to_the_parents";
    let trial = Trial::new(law, make, plan).await;
    let dead = trial.admit(&calls(member("a"), 1)).await;
    trial.advance(LEASE - Duration::from_millis(1));
    trial.refuse(&calls(member("b"), 1)).await;
    trial.advance(Duration::from_millis(1));
    let granted = trial.admit(&calls(member("b"), 1)).await;
    trial.stands(member("a"), (Calls, Day), (0, 0)).await;

    let one = Amounts::new().calls(1);
    let late = trial.settle(dead.ticket(), one).await;
    trial.same("late", &late, &Settled::Applied { overshoot: one });
    trial.settle(granted.ticket(), one).await;
    trial.stands(member("a"), (Calls, Day), (1, 0)).await;
    trial
        .stands(Subject::new("org"), (Calls, Day), (2, 0))
        .await;
}

/// Who is somebody in two organisations is two.
pub async fn one_name_under_two_parents_is_two_subjects(make: &impl MakeStore) {
    let plan = [Limit::at_most(Calls, Day, 1)];
    let law = "one_name_under_two_parents_is_two_subjects";
    let trial = Trial::new(law, make, plan).await;
    for subject in [
        Subject::new("a"),
        Subject::new("a").under("x"),
        Subject::new("a").under("y"),
        Subject::new("a").under(""),
        Subject::new("a}").under("{z"),
        Subject::new("z:a"),
        Subject::new("a").under("z"),
    ] {
        trial.admit(&calls(subject.clone(), 1)).await;
        trial.refuse(&calls(subject, 1)).await;
    }
    let moved = Subject::new("a").under("team").under("x");
    trial.refuse(&calls(moved, 1)).await;
}
