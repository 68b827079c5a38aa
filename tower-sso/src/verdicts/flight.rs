use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use quick_cache::sync::Cache;
use tokio::{runtime::Handle, sync::watch};

use super::{
    Era, TokenHash, Verdicts,
    cache::{Inner, Stand},
};
use crate::{Identity, Reason, VerifyError, VerifyFuture};

/// What an asynchronous verifier is asked just now, and what it refused a moment ago.
pub(super) struct Flights {
    under_way: Mutex<HashMap<Question, Flight>>,
    /// Apart from the verdicts: anybody can make up tokens, and must not push verdicts out with them.
    refused: Option<Cache<Question, Refusal>>,
}

/// A token before one verifier.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
struct Question {
    token: TokenHash,
    era: u64,
}

struct Flight {
    stand: Stand,
    answer: watch::Receiver<Option<Answer>>,
}

type Answer = Result<Arc<Identity>, VerifyError>;

#[derive(Clone, Copy)]
struct Refusal {
    reason: Reason,
    number: u64,
    since: SystemTime,
    until: SystemTime,
}

/// A question under way. However it ends, it ends in `drop`: who waits goes on even if the task is
/// cancelled or panics.
struct Asking {
    verdicts: Arc<Inner>,
    question: Question,
    answer: watch::Sender<Option<Answer>>,
}

// === impl Verdicts ===

impl Verdicts {
    /// What the verifier of this era says about a token: as remembered, or as it is being found out,
    /// or else by asking. However many ask about one token at a time, it is found out once.
    ///
    /// `ask` makes the question, or says why it cannot be asked now. It must not use the verdicts.
    /// The question runs as a task, so that it goes on when who asked first leaves; outside of a Tokio
    /// runtime the answer is [`Unavailable`](VerifyError::Unavailable). A refusal is remembered for
    /// `refusals_last`, unavailability never. `now` is when the token came, by the verifier's clock.
    pub(crate) fn get_or_ask<F>(
        &self,
        token: TokenHash,
        era: &Era,
        now: SystemTime,
        refusals_last: Duration,
        ask: impl FnOnce() -> Result<F, VerifyError>,
    ) -> VerifyFuture
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let question = Question {
            token,
            era: era.id(),
        };
        if let Some(answer) = self.known(&question, era, now) {
            return VerifyFuture::ready(answer);
        }
        let Ok(runtime) = Handle::try_current() else {
            return VerifyFuture::ready(Err(VerifyError::Unavailable));
        };
        let stand = self.stand(era);
        let (answer, asking) = {
            let mut under_way = self.0.flights.under_way();
            match under_way.get(&question) {
                // One that began before something ended may bring what has ended.
                Some(flight) if self.holds(&flight.stand) => (flight.answer.clone(), None),
                _ => {
                    // It may just have landed.
                    if let Some(answer) = self.known(&question, era, now) {
                        return VerifyFuture::ready(answer);
                    }
                    let asked = match ask() {
                        Ok(asked) => asked,
                        Err(error) => return VerifyFuture::ready(Err(error)),
                    };
                    let (sender, receiver) = watch::channel(None);
                    let flight = Flight {
                        stand: stand.clone(),
                        answer: receiver.clone(),
                    };
                    under_way.insert(question, flight);
                    let asking = Asking {
                        verdicts: Arc::clone(&self.0),
                        question,
                        answer: sender,
                    };
                    (receiver, Some((asking, asked)))
                }
            }
        };
        // Without the lock: a runtime that is shutting down drops the task here and now.
        if let Some((asking, asked)) = asking {
            runtime.spawn(asking.run(asked, stand, now, refusals_last));
        }
        VerifyFuture::boxed(landed(answer))
    }

    fn known(&self, question: &Question, era: &Era, now: SystemTime) -> Option<Answer> {
        if let Some(identity) = self.recall(&question.token, now, |of| of.is(era)) {
            return Some(Ok(identity));
        }
        let refusal = self.0.flights.refused.as_ref()?.get(question)?;
        let holds = refusal.number == era.number() && (refusal.since..refusal.until).contains(&now);
        holds.then_some(Err(VerifyError::Invalid(refusal.reason)))
    }
}

async fn landed(mut answer: watch::Receiver<Option<Answer>>) -> Answer {
    // An error says that the question has ended without an answer.
    match answer.wait_for(Option::is_some).await {
        Ok(answer) => answer.clone().unwrap_or(Err(VerifyError::Unavailable)),
        Err(_) => Err(VerifyError::Unavailable),
    }
}

// === impl Flights ===

impl Flights {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            under_way: Mutex::default(),
            refused: (capacity > 0).then(|| Cache::new(capacity)),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Question, Flight>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(
        &self,
        question: Question,
        reason: Reason,
        stand: &Stand,
        now: SystemTime,
        lasts: Duration,
    ) {
        let (Some(refused), Some(until)) = (&self.refused, now.checked_add(lasts)) else {
            return;
        };
        let refusal = Refusal {
            reason,
            number: stand.number(),
            since: now,
            until,
        };
        refused.insert(question, refusal);
    }
}

// === impl Asking ===

impl Asking {
    async fn run(
        self,
        asked: impl Future<Output = Answer>,
        stand: Stand,
        now: SystemTime,
        refusals_last: Duration,
    ) {
        let answer = asked.await;
        let verdicts = Verdicts(Arc::clone(&self.verdicts));
        match &answer {
            Ok(identity) => verdicts.remember(self.question.token, identity, &stand, now),
            Err(VerifyError::Invalid(reason)) if !refusals_last.is_zero() => {
                let flights = &self.verdicts.flights;
                flights.refuse(self.question, *reason, &stand, now, refusals_last);
            }
            Err(_) => {}
        }
        self.answer.send_replace(Some(answer));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let own = self.answer.subscribe();
        let mut under_way = self.verdicts.flights.under_way();
        // A later one may have taken its place.
        if under_way
            .get(&self.question)
            .is_some_and(|flight| flight.answer.same_channel(&own))
        {
            under_way.remove(&self.question);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;
    const BRIEFLY: Duration = Duration::from_secs(10);

    /// A verifier that answers when it is let.
    #[derive(Clone)]
    struct Oracle {
        verdicts: Verdicts,
        era: Era,
        asked: Arc<AtomicU32>,
        gate: Arc<Notify>,
        answer: Answer,
    }

    impl Oracle {
        fn new(answer: Answer) -> Self {
            Self {
                verdicts: Verdicts::new(100),
                era: Era::new(),
                asked: Arc::default(),
                gate: Arc::default(),
                answer,
            }
        }

        fn ask_at(&self, token: &str, now: SystemTime) -> VerifyFuture {
            let hash = TokenHash::new(token);
            self.verdicts.get_or_ask(hash, &self.era, now, BRIEFLY, || {
                let oracle = self.clone();
                Ok(async move {
                    oracle.asked.fetch_add(1, Ordering::Relaxed);
                    oracle.gate.notified().await;
                    oracle.answer
                })
            })
        }

        fn ask(&self, token: &str) -> VerifyFuture {
            self.ask_at(token, NOW)
        }

        fn asked(&self) -> u32 {
            self.asked.load(Ordering::Relaxed)
        }
    }

    fn alice() -> Answer {
        Ok(Arc::new(Identity::builder("issuer", "alice").build()))
    }

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn any_number_of_requests_with_one_token_ask_once() {
        let oracle = Oracle::new(alice());
        let waiting: Vec<_> = (0..1_000).map(|_| oracle.ask("token")).collect();
        let other = oracle.ask("other");
        settle().await;
        assert_eq!(oracle.asked(), 2, "one for each token");
        oracle.gate.notify_waiters();
        for answer in waiting {
            answer.await.unwrap();
        }
        other.await.unwrap();
        oracle.ask("token").try_ready().unwrap().unwrap();
        assert_eq!(oracle.asked(), 2);
        assert!(oracle.verdicts.0.flights.under_way().is_empty());
    }

    #[tokio::test]
    async fn who_leaves_takes_the_answer_from_nobody() {
        let oracle = Oracle::new(alice());
        let (first, second) = (oracle.ask("token"), oracle.ask("token"));
        drop(first);
        settle().await;
        oracle.gate.notify_waiters();
        second.await.unwrap();
        assert_eq!(oracle.asked(), 1);
    }

    #[tokio::test]
    async fn a_refusal_is_remembered_briefly_and_for_its_verifier_only() {
        let oracle = Oracle::new(Err(Reason::Unknown.into()));
        let refused = oracle.ask("token");
        oracle.gate.notify_one();
        assert!(refused.await.is_err());
        let again = oracle.ask("token").try_ready().unwrap();
        assert_eq!(again.err(), Some(VerifyError::Invalid(Reason::Unknown)));

        let later = oracle.ask_at("token", NOW + BRIEFLY);
        let other = Oracle {
            era: Era::new(),
            ..oracle.clone()
        };
        let elsewhere = other.ask("token");
        settle().await;
        assert_eq!(oracle.asked(), 3, "anew after a while, and by others");
        oracle.gate.notify_waiters();
        assert!(later.await.is_err() && elsewhere.await.is_err());
    }

    #[tokio::test]
    async fn unavailability_is_not_remembered() {
        let oracle = Oracle::new(Err(VerifyError::Unavailable));
        for _ in 0..2 {
            let answer = oracle.ask("token");
            oracle.gate.notify_one();
            assert_eq!(answer.await.err(), Some(VerifyError::Unavailable));
        }
        assert_eq!(oracle.asked(), 2);
    }

    #[tokio::test]
    async fn what_was_ended_meanwhile_is_asked_anew_and_never_joined() {
        let oracle = Oracle::new(alice());
        let before = oracle.ask("token");
        settle().await;
        oracle.verdicts.forget(|_| false);
        let after = oracle.ask("token");
        settle().await;
        assert_eq!(oracle.asked(), 2, "the first may bring what has ended");
        oracle.gate.notify_waiters();
        assert!(before.await.is_ok() && after.await.is_ok());

        oracle.era.end();
        let anew = oracle.ask("token");
        settle().await;
        assert_eq!(oracle.asked(), 3);
        oracle.gate.notify_waiters();
        assert!(anew.await.is_ok());
    }

    #[tokio::test]
    async fn a_question_that_panics_leaves_nothing_behind() {
        let oracle = Oracle::new(alice());
        let hash = TokenHash::new("token");
        let answer = oracle
            .verdicts
            .get_or_ask(hash, &oracle.era, NOW, BRIEFLY, || {
                Ok(async { panic!("the verifier panics") })
            });
        assert_eq!(answer.await.err(), Some(VerifyError::Unavailable));
        assert!(oracle.verdicts.0.flights.under_way().is_empty());
    }

    #[test]
    fn outside_of_a_runtime_nothing_is_asked() {
        let oracle = Oracle::new(alice());
        let answer = oracle.ask("token").try_ready().unwrap();
        assert_eq!(answer.err(), Some(VerifyError::Unavailable));
    }
}
