//! People who call models all the time: by every API, whole and streamed, to the end and not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ::http::{Request, StatusCode, header::CONTENT_TYPE};
use gateway_tests::{dice::Dice, gateway::Gateway, http};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// The most that a call may take.
const MOST: u64 = 400;

/// Calls of one person at the same time.
const AT_ONCE: usize = 2;

/// Somebody with a virtual key.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) key: String,
    /// What they show to the gateway itself.
    pub(crate) token: String,
}

/// What somebody was told of a call.
#[derive(Debug)]
pub(crate) struct Told {
    /// What the provider was asked, which nobody else says.
    pub(crate) message: String,
    /// The status of an answer that was read to its end.
    pub(crate) status: Option<StatusCode>,
    pub(crate) text: String,
    pub(crate) at: Instant,
}

/// Calls that are going on.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Vec<Told>>,
}

/// Who makes one call after another.
pub(crate) struct Caller {
    openai: String,
    anthropic: String,
    person: Person,
    dice: Arc<Dice>,
}

// === impl Load ===

impl Load {
    pub(crate) fn start(gateway: &Gateway, people: &[Person], dice: &Arc<Dice>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for person in people {
            for _ in 0..AT_ONCE {
                let (caller, stop) = (Caller::new(gateway, person, dice), Arc::clone(&stop));
                callers.spawn(async move {
                    let mut all = Vec::new();
                    while !stop.load(Relaxed) {
                        let told = caller.call().await;
                        let is_answered = told.status.is_some();
                        all.push(told);
                        if !is_answered {
                            // It may be that nobody is there.
                            sleep(Duration::from_millis(10)).await;
                        }
                    }
                    all
                });
            }
        }
        Self { stop, callers }
    }

    /// Waits until every call has come to its end.
    pub(crate) async fn stop(self) -> Vec<Told> {
        self.stop.store(true, Relaxed);
        self.callers
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

// === impl Caller ===

impl Caller {
    pub(crate) fn new(gateway: &Gateway, person: &Person, dice: &Arc<Dice>) -> Self {
        Self {
            openai: gateway.egress_url("/openai/v1"),
            anthropic: gateway.egress_url("/anthropic/v1"),
            person: person.clone(),
            dice: Arc::clone(dice),
        }
    }

    /// A call of any kind.
    async fn call(&self) -> Told {
        let roll = |below| self.dice.roll(below);
        let mut what = format!("[[in={}]] [[out={}]] ", roll(300) + 1, roll(60) + 1);
        what += match roll(10) {
            0 => "[[status=500]] ",
            1 => "[[cache_read=70]] ",
            2 => "[[sleep=300]] ",
            _ => "",
        };
        let (api, streams) = (roll(7), roll(2) == 0);
        if streams {
            what += &format!("[[words={}]] [[chunk_delay={}]] ", roll(30) + 2, roll(25));
        }
        // One in five is left before its end, unless that was before.
        let leaves = (roll(5) == 0).then(|| Duration::from_millis(roll(250)));
        let call = self.say(api, streams, &what);
        match leaves {
            None => call.await,
            Some(after) => match timeout(after, call).await {
                Ok(told) => told,
                Err(_) => Told {
                    message: String::new(),
                    status: None,
                    text: String::new(),
                    at: Instant::now(),
                },
            },
        }
    }

    /// A call by one of the APIs.
    pub(crate) async fn say(&self, api: u64, streams: bool, what: &str) -> Told {
        static COUNT: AtomicU64 = AtomicU64::new(0);

        let (name, n) = (&self.person.name, COUNT.fetch_add(1, Relaxed));
        let message = format!("{name} #{n} {}", what.trim_end());
        let messages = json!([{"role": "user", "content": message}]);
        let openai = |path: &str| format!("{}{path}", self.openai);
        let (url, mut body) = match api {
            0 | 1 => (
                format!("{}/messages", self.anthropic),
                json!({"model": "test-claude", "max_tokens": MOST, "messages": messages}),
            ),
            2 | 3 => (
                openai("/responses"),
                json!({"model": "test-large", "max_output_tokens": MOST, "input": message}),
            ),
            4 => (
                openai("/embeddings"),
                json!({"model": "test-embedding", "input": message}),
            ),
            _ => (
                openai("/chat/completions"),
                json!({"model": "test-small", "max_tokens": MOST, "messages": messages}),
            ),
        };
        if streams && api != 4 {
            body["stream"] = Value::Bool(true);
        }
        let request = Request::post(&url)
            .header(CONTENT_TYPE, "application/json")
            .header("anthropic-version", "2023-06-01")
            .header("authorization", format!("Bearer {}", self.person.key));
        let answer = http::send(request, body.to_string()).await.ok();
        Told {
            message,
            status: answer.as_ref().map(|answer| answer.status),
            text: answer.map(|answer| answer.text()).unwrap_or_default(),
            at: Instant::now(),
        }
    }
}
