use std::{
    future::Future,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quick_cache::sync::Cache;
use tokio::{sync::Semaphore, time::Instant};

use super::refusals::Refusals;
use crate::{Identity, Reason, VerifyError, verdicts::TokenHash};

/// How often an issuer is asked, and how much at a time.
#[derive(Clone)]
pub(super) struct Pace(Arc<Inner>);

/// Why an issuer has not said whose a token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// It is a token that does not count.
    Refused(Reason),
    /// It does not say so of this token. With another one it may.
    Withheld,
    /// It does not say so of any.
    Down,
}

/// The right to ask about one token. However it ends, it ends in `drop`.
pub(super) struct Turn {
    pace: Pace,
    token: TokenHash,
    /// Where the token came from.
    address: Option<IpAddr>,
    is_probe: bool,
}

struct Inner {
    issuer: Box<str>,
    places: Semaphore,
    state: Mutex<State>,
    /// Until when there is no use in asking about a token again.
    withheld: Cache<TokenHash, Instant>,
    refusals: Refusals,
}

#[derive(Default)]
struct State {
    /// Questions that are asked or wait for a place.
    questions: usize,
    /// Pauses since the last answer.
    pauses: u32,
    not_before: Option<Instant>,
    /// Whether somebody finds out if the issuer is back.
    is_probed: bool,
}

/// Most questions that are asked at a time.
const PLACES: usize = 64;

/// Most questions that are asked or wait for a place.
const QUESTIONS: usize = 1024;

/// The first pause after a failure; it doubles with each one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// How long a token is not asked about that the issuer says nothing about.
const WITHHELD_FOR: Duration = Duration::from_secs(10);

/// How many such tokens are remembered.
const WITHHELD: usize = 1024;

// === impl Pace ===

impl Pace {
    pub(super) fn new(issuer: &str) -> Self {
        Self(Arc::new(Inner {
            issuer: issuer.into(),
            places: Semaphore::new(PLACES),
            state: Mutex::default(),
            withheld: Cache::new(WITHHELD),
            refusals: Refusals::new(),
        }))
    }

    /// A turn to ask about a token.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Unavailable`] if the issuer must not be asked now: it has failed a moment ago and
    /// nobody knows yet whether it is back, it has too much to answer already, it said nothing about
    /// this token a moment ago, or it has just refused many tokens from the same address.
    pub(super) fn turn(
        &self,
        token: TokenHash,
        address: Option<IpAddr>,
    ) -> Result<Turn, VerifyError> {
        let now = Instant::now();
        if self.0.withheld.get(&token).is_some_and(|until| now < until) {
            return Err(VerifyError::Unavailable);
        }
        if address.is_some_and(|address| !self.0.refusals.admit(address)) {
            return Err(VerifyError::Unavailable);
        }
        let mut state = self.state();
        let is_probe = state.pauses > 0;
        let is_pause = state.not_before.is_some_and(|until| now < until);
        if is_pause || (is_probe && state.is_probed) || state.questions >= QUESTIONS {
            return Err(VerifyError::Unavailable);
        }
        state.questions += 1;
        state.is_probed |= is_probe;
        Ok(Turn {
            pace: self.clone(),
            token,
            address,
            is_probe,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Turn ===

impl Turn {
    /// Asks, as soon as there is a place. If the issuer has failed meanwhile, it is not asked.
    pub(super) async fn ask(
        self,
        question: impl Future<Output = Result<Identity, Failure>>,
    ) -> Result<Arc<Identity>, VerifyError> {
        // An error says that the places are gone; they never are.
        let _place = self.pace.0.places.acquire().await;
        let begun = self.pace.state().pauses;
        if begun > 0 && !self.is_probe {
            return Err(VerifyError::Unavailable);
        }
        let answer = question.await;
        let mut state = self.pace.state();
        match answer {
            // Of many that fail together one counts.
            Err(Failure::Down) if begun == state.pauses => {
                let doubled = FIRST_PAUSE.saturating_mul(1 << begun.min(16));
                state.not_before = Instant::now().checked_add(doubled.min(LAST_PAUSE));
                state.pauses = state.pauses.saturating_add(1);
                tracing::warn!(
                    issuer = &*self.pace.0.issuer,
                    "the issuer does not say whose a token is"
                );
            }
            Err(Failure::Down) => {}
            Ok(_) | Err(_) => (state.pauses, state.not_before) = (0, None),
        }
        drop(state);
        match answer {
            Ok(identity) => Ok(Arc::new(identity)),
            Err(Failure::Refused(reason)) => {
                if let Some(address) = self.address {
                    self.pace.0.refusals.refused(address);
                }
                Err(VerifyError::Invalid(reason))
            }
            Err(Failure::Down) => Err(VerifyError::Unavailable),
            Err(Failure::Withheld) => {
                if let Some(until) = Instant::now().checked_add(WITHHELD_FOR) {
                    self.pace.0.withheld.insert(self.token, until);
                }
                Err(VerifyError::Unavailable)
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        state.questions = state.questions.saturating_sub(1);
        state.is_probed &= !self.is_probe;
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::advance;

    use super::*;

    fn turn(pace: &Pace, token: &str) -> Result<Turn, VerifyError> {
        pace.turn(TokenHash::new(token), None)
    }

    async fn fails(pace: &Pace, token: &str, failure: Failure) {
        let turn = turn(pace, token).unwrap();
        assert!(turn.ask(ready(Err(failure))).await.is_err());
    }

    fn may_ask(pace: &Pace) -> bool {
        turn(pace, "another").is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_half_a_minute() {
        let pace = Pace::new("issuer");
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            fails(&pace, "token", Failure::Down).await;
            advance(Duration::from_millis(seconds * 1000 - 1)).await;
            assert!(!may_ask(&pace), "{seconds}");
            advance(Duration::from_millis(1)).await;
        }
        fails(&pace, "token", Failure::Refused(Reason::Unknown)).await;
        fails(&pace, "token", Failure::Down).await;
        advance(Duration::from_secs(1)).await;
        assert!(may_ask(&pace), "from the start again");
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_fail_together_are_one_failure() {
        let pace = Pace::new("issuer");
        let turns: Vec<_> = (0..PLACES).map(|_| turn(&pace, "token").unwrap()).collect();
        let asked = turns.into_iter().map(|turn| {
            turn.ask(async {
                tokio::task::yield_now().await;
                Err(Failure::Down)
            })
        });
        futures_util::future::join_all(asked).await;
        advance(FIRST_PAUSE).await;
        assert!(may_ask(&pace));
    }

    #[tokio::test(start_paused = true)]
    async fn one_finds_out_whether_the_issuer_is_back() {
        let pace = Pace::new("issuer");
        let waiting = turn(&pace, "waiting").unwrap();
        fails(&pace, "token", Failure::Down).await;
        let never = async { panic!("asked though the issuer has failed") };
        assert!(waiting.ask(never).await.is_err());

        advance(FIRST_PAUSE).await;
        let probe = turn(&pace, "token").unwrap();
        assert!(!may_ask(&pace), "one only");
        drop(probe);
        assert!(may_ask(&pace), "another, if the first is gone");
        let probe = turn(&pace, "token").unwrap();
        let known = Identity::builder("issuer", "alice").build();
        probe.ask(ready(Ok(known))).await.unwrap();
        let (_first, second) = (turn(&pace, "a").unwrap(), turn(&pace, "b"));
        assert!(second.is_ok(), "all again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_nothing_is_said_about_harms_no_other() {
        let pace = Pace::new("issuer");
        for _ in 0..10 {
            fails(&pace, "odd", Failure::Withheld).await;
            assert!(turn(&pace, "odd").is_err());
            assert!(may_ask(&pace));
            advance(WITHHELD_FOR).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn questions_and_those_that_wait_are_bounded() {
        let pace = Pace::new("issuer");
        let mut turns: Vec<_> = (0..QUESTIONS)
            .map(|n| turn(&pace, &n.to_string()).unwrap())
            .collect();
        assert!(!may_ask(&pace));
        turns.pop();
        assert!(may_ask(&pace));

        let asked: Vec<_> = turns
            .into_iter()
            .map(|turn| tokio::spawn(turn.ask(pending())))
            .collect();
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        assert_eq!(pace.0.places.available_permits(), 0);
        for task in asked {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert_eq!(pace.state().questions, 0);
        assert_eq!(pace.0.places.available_permits(), PLACES);
    }
}
