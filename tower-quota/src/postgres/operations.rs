//! What the server is asked for each operation, again where its answer says so, and what its answers mean.

use std::{
    error::Error as _,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep};

use super::{
    answer::{Answer, Stale},
    connection::NoConnection,
    exchange::{AskError, Operation},
    question::{self, Text, moment},
    statements::{COUNT, RESERVE, SET_TERMS, SETTLE, STANDINGS, TERMS},
    store::{PostgresStore, whole_ms},
};
use crate::{
    Amounts, Charge, Granted, Limit, Period, QuotaStore as _, ReserveError, Settled, Standing,
    StoreError, Subject, Terms, Ticket,
    remote::{Calendar, Level, parse_terms},
    unix_ms::UnixMs,
};

/// How long it is until it is tried again to give back a reservation that was not answered, at first.
const REGRET: Duration = Duration::from_secs(1);

/// How often a question is asked anew to which the answer was what to ask.
const CORRECTIONS: usize = 5;

impl PostgresStore {
    pub(super) async fn decide(&self, charge: &Charge) -> Result<Granted, ReserveError> {
        let deadline = self.server.deadline();
        let id = self.ids.next();
        for _ in 0..=CORRECTIONS {
            let question = self.known.question(charge, self.calendar());
            let text = question::reserve(&question, id, whole_ms(self.lease));
            let answer = match self.ask(RESERVE, deadline, text).await {
                Ok(answer) => answer,
                Err(error) => {
                    if !was_not_asked(&error) {
                        self.give_back(Ticket::new(id, charge.subject().clone(), UNIX_EPOCH));
                    }
                    return Err(error.into());
                }
            };
            if let Some(held) = answer.held() {
                let now = answer.now().system_time();
                let ticket = Ticket::new(id, charge.subject().clone(), now);
                return Ok(Granted::new(ticket, held));
            }
            if let Some(refusal) = &answer.denied {
                let denied = refusal
                    .denied()
                    .ok_or_else(|| not_understood("a refusal"))?;
                return Err(denied.into());
            }
            if let Some(stale) = &answer.terms {
                self.learn(&question.levels, stale)?;
            }
            // Else it is another time there than was thought. Now it is known.
        }
        Err(unsettled().into())
    }

    /// Gives back what was not answered and may be held all the same, for nobody: at once, or as soon as the server answers.
    /// If all that fails its lease ends.
    fn give_back(&self, ticket: Ticket) {
        // Of an outage it is the first who can have been heard.
        let Ok(permit) = Arc::clone(&self.regrets).try_acquire_owned() else {
            return;
        };
        let store = self.clone();
        tokio::spawn(async move {
            let mut pause = REGRET;
            while pause <= store.lease && store.release(&ticket).await.is_err() {
                sleep(pause).await;
                pause *= 2;
            }
            drop(permit);
        });
    }

    pub(super) async fn stand(&self, subject: Subject) -> Result<Vec<Standing>, StoreError> {
        let deadline = self.server.deadline();
        for _ in 0..=CORRECTIONS {
            let level = self.known.level(subject.clone(), self.calendar());
            let levels = [level];
            let question = question::levels(&subject, &levels);
            let answer = self.ask(STANDINGS, deadline, question).await?;
            if let Some(stale) = &answer.terms {
                self.learn(&levels, stale)?;
                continue;
            }
            let now = answer.now();
            let [level] = levels;
            // The periods of the moment at which the server was asked.
            let present = self.known.level(subject.clone(), Calendar(now));
            let standings = level.limits.iter().map(|limit| {
                let (dimension, window) = (limit.dimension(), limit.window());
                let limit = Limit::new(dimension, window, level.allowance(limit, now));
                let standing = answer.standing(limit);
                standing.or_else(|| untouched(limit, &present))
            });
            let standings: Option<Vec<_>> = standings.collect();
            return standings.ok_or_else(|| not_understood("a window"));
        }
        Err(unsettled())
    }

    pub(super) async fn settle_now(
        &self,
        ticket: &Ticket,
        used: Amounts,
    ) -> Result<Settled, StoreError> {
        let mut question = question::ticket(ticket);
        question.insert("used".into(), question::amounts(used));
        let answer = self.ask(SETTLE, self.server.deadline(), question).await?;
        Ok(match answer.held() {
            Some(held) => Settled::Applied {
                overshoot: used.saturating_sub(held),
            },
            None if answer.is_settled => Settled::AlreadySettled,
            None => Settled::Forgotten,
        })
    }

    pub(super) async fn find_terms(&self, subject: &Subject) -> Result<Terms, StoreError> {
        let question = question::terms(subject);
        let answer = self.ask(TERMS, self.server.deadline(), question).await?;
        let terms = read(answer.version, answer.text.as_deref())?;
        self.known.learn(subject.clone(), terms.clone());
        Ok(terms)
    }

    pub(super) async fn change_terms(
        &self,
        subject: &Subject,
        terms: Terms,
    ) -> Result<bool, StoreError> {
        let question = question::set_terms(subject, &terms);
        let answer = self.ask(SET_TERMS, self.server.deadline(), question);
        let is_set = answer.await?.is_set;
        if is_set {
            let version = terms.version().saturating_add(1);
            self.known.learn(subject.clone(), terms.at_version(version));
        }
        Ok(is_set)
    }

    pub(super) async fn count_now(
        &self,
        ticket: &Ticket,
        used: Amounts,
    ) -> Result<Settled, StoreError> {
        let deadline = self.server.deadline();
        let (subject, at) = (ticket.subject(), UnixMs::from(ticket.admitted_at()));
        for _ in 0..=CORRECTIONS {
            let levels: Vec<_> = subject
                .chain()
                .map(|subject| self.known.level(subject, Calendar(at)))
                .collect();
            let mut question = question::levels(subject, &levels);
            question.append(&mut question::ticket(ticket));
            question.insert("at".into(), moment(at));
            question.insert("used".into(), question::amounts(used));
            let answer = self.ask(COUNT, deadline, question).await?;
            match answer.terms {
                Some(stale) => self.learn(&levels, &stale)?,
                None if answer.is_settled => return Ok(Settled::AlreadySettled),
                None => return Ok(Settled::Applied { overshoot: used }),
            }
        }
        Err(unsettled())
    }

    pub(super) async fn ask(
        &self,
        operation: Operation,
        deadline: Instant,
        mut question: Text,
    ) -> Result<Answer, StoreError> {
        if let Some(clock) = &self.clock {
            question.insert("now".into(), moment(UnixMs::from(clock.now())));
        }
        self.server.ask(operation, deadline, question).await
    }

    fn calendar(&self) -> Calendar {
        Calendar(match &self.clock {
            Some(clock) => UnixMs::from(clock.now()),
            None => self.server.time.at(Instant::now()),
        })
    }

    fn learn(&self, levels: &[Level], stale: &[Stale]) -> Result<(), StoreError> {
        for stale in stale {
            let terms = read(stale.version, stale.terms.as_deref())?;
            if let Some(level) = levels.get(stale.level) {
                self.known.learn(level.subject.clone(), terms);
            }
        }
        Ok(())
    }
}

/// Whether nothing of it has come to the server.
fn was_not_asked(error: &StoreError) -> bool {
    error.source().is_some_and(|source| {
        let asked = source.downcast_ref::<AskError>();
        let is_early =
            asked.is_some_and(|asked| matches!(asked, AskError::Crowd | AskError::Late(_)));
        is_early || source.is::<NoConnection>()
    })
}

/// How a limit stands of which nothing is used in the period that the level was made for.
fn untouched(limit: Limit, level: &Level) -> Option<Standing> {
    let mut windows = level.periods.iter();
    let candidates = windows.find(|candidates| candidates.window == limit.window())?;
    let [_, start, end, _] = candidates.bounds;
    Some(Standing::new(limit, Period::from_ms(start, end), 0, 0))
}

fn read(version: u64, json: Option<&str>) -> Result<Terms, StoreError> {
    parse_terms(version, json.unwrap_or("{}")).ok_or_else(|| not_understood("terms"))
}

fn not_understood(what: &str) -> StoreError {
    StoreError::new(format!("the server's answer has {what} of another version"))
}

fn unsettled() -> StoreError {
    StoreError::new("what the question is about changes faster than it is asked")
}
