//! A provider that answers as it is told to, and a clock that is set by hand.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
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
    answers: HashMap<String, (u16, String)>,
    asked: Vec<Asked>,
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
        let mut state = self.0.lock().unwrap();
        let answer = (status, json.to_string());
        state.answers.insert(what.to_owned(), answer);
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
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
        let answer = {
            let mut state = self.0.lock().unwrap();
            state.asked.push(asked);
            state.answers.get(&what).cloned()
        };
        HttpFuture::boxed(async move {
            // A network never answers at once.
            tokio::task::yield_now().await;
            let Some((status, text)) = answer else {
                return Err(HttpError::new("no route to the provider"));
            };
            if status == 0 {
                std::future::pending::<()>().await;
            }
            let mut response = Response::new(Bytes::from(text));
            *response.status_mut() = status.try_into().unwrap();
            Ok(response)
        })
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
