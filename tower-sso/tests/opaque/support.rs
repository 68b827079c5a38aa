//! A provider that answers as it is told to, and a clock that is set by hand.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::AUTHORIZATION};
use serde_json::Value;
use tower_sso::{
    HttpClient, HttpError, HttpFuture, Reason, Verify, VerifyError,
    jwt::{Clock, JwtConfig},
};

pub(crate) const NOW: u64 = 1_700_000_000;

#[derive(Clone, Default)]
pub(crate) struct Provider(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    answers: HashMap<String, (u16, HeaderMap, String)>,
    asked: Vec<Asked>,
    takes: Duration,
    under_way: usize,
    most: usize,
}

/// What the provider was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) what: String,
    pub(crate) authorization: String,
    pub(crate) body: String,
}

impl Provider {
    /// Answers so to a method and an address; with status 0 not at all.
    pub(crate) fn answer(&self, what: &str, status: u16, json: &Value) {
        self.answer_with(what, status, &[], &json.to_string());
    }

    /// The same with headers and any text.
    pub(crate) fn answer_with(
        &self,
        what: &str,
        status: u16,
        headers: &[(&'static str, &'static str)],
        text: &str,
    ) {
        let headers = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_static(value);
            (HeaderName::from_static(name), value)
        });
        let answer = (status, headers.collect(), text.to_owned());
        self.state().answers.insert(what.to_owned(), answer);
    }

    /// Makes another one answer as this one does.
    pub(crate) fn pass_on_to(&self, other: &Self) {
        other.state().answers = self.state().answers.clone();
    }

    /// Takes so long for each answer.
    pub(crate) fn takes(&self, takes: Duration) {
        self.state().takes = takes;
    }

    /// How many questions were under way at a time at most.
    pub(crate) fn most(&self) -> usize {
        self.state().most
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state().asked)
    }

    /// How often this was asked since the last time.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.what == what)
            .count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl HttpClient for Provider {
    fn send(&self, request: Request<Bytes>, _: usize) -> HttpFuture {
        let what = format!("{} {}", request.method(), request.uri());
        let authorization = request.headers().get(AUTHORIZATION);
        let authorization = authorization.map_or("", |value| value.to_str().unwrap());
        let asked = Asked {
            what: what.clone(),
            authorization: authorization.to_owned(),
            body: String::from_utf8(request.body().to_vec()).unwrap(),
        };
        let (answer, takes) = {
            let mut state = self.state();
            state.asked.push(asked);
            state.under_way += 1;
            state.most = state.most.max(state.under_way);
            (state.answers.get(&what).cloned(), state.takes)
        };
        let under_way = UnderWay(self.clone());
        HttpFuture::boxed(async move {
            let _under_way = under_way;
            // A network never answers at once.
            tokio::task::yield_now().await;
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            let Some((status, headers, text)) = answer else {
                return Err(HttpError::new("no route to the provider"));
            };
            if status == 0 {
                std::future::pending::<()>().await;
            }
            let mut response = Response::new(Bytes::from(text));
            *response.status_mut() = status.try_into().unwrap();
            *response.headers_mut() = headers;
            Ok(response)
        })
    }
}

/// A question that is not answered yet.
struct UnderWay(Provider);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
    }
}

#[derive(Clone)]
pub(crate) struct HandClock(Arc<AtomicU64>);

impl HandClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(NOW)))
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

pub(crate) fn config(issuer: &str, clock: &HandClock) -> JwtConfig {
    JwtConfig::new(issuer, "api")
        .alias("corp")
        .clock(Arc::new(clock.clone()))
}

/// Why a token is not taken; `None` if it is.
pub(crate) async fn refused(verifier: &impl Verify, token: &str) -> Option<VerifyError> {
    verifier.verify(token).await.err()
}

pub(crate) const fn invalid(reason: Reason) -> Option<VerifyError> {
    Some(VerifyError::Invalid(reason))
}

/// The same, if it is known without waiting.
pub(crate) fn at_once(verifier: &impl Verify, token: &str) -> Option<Option<VerifyError>> {
    let verdict = verifier.verify(token).now_or_never();
    verdict.map(Result::err)
}
