//! Deliveries to a receiver on a local port.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{future, stream};
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode, Uri};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_quota::{Amounts, Dimension, Limit, Limits, MemoryStore, Subject, Window};

use super::receiver::{Failure, Receiver};
use super::sender::Sender;
use super::{Signer, Target};
use crate::alerts::Alerts;
use crate::clock;
use crate::store::{Alert, AlertState, Store};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// No test waits so long, unless it fails.
const LIMIT: Duration = Duration::from_secs(30);

/// A receiver, and a store with what is to be delivered to it.
struct Fixture {
    _dir: tempfile::TempDir,
    store: Store,
    url: Uri,
    hook: Hook,
}

#[derive(Clone, Default)]
struct Hook {
    seen: Arc<Mutex<Vec<(Uri, HeaderMap, Bytes)>>>,
    /// What it answers first; then it takes everything.
    answers: Arc<Mutex<VecDeque<Answer>>>,
    came: Arc<Notify>,
}

enum Answer {
    Status(StatusCode),
    Asking(StatusCode, &'static str),
    Redirect,
    Endless,
    Never,
}

async fn take(
    State(hook): State<Hook>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let answer = hook.answers.lock().unwrap().pop_front();
    hook.seen.lock().unwrap().push((uri, headers, body));
    hook.came.notify_one();
    match answer {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(Answer::Status(status)) => status.into_response(),
        Some(Answer::Asking(status, wait)) => (status, [(RETRY_AFTER, wait)]).into_response(),
        Some(Answer::Redirect) => (StatusCode::FOUND, [(LOCATION, "/other")]).into_response(),
        Some(Answer::Endless) => {
            let kilobyte = Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 1024]));
            Body::from_stream(stream::repeat(kilobyte)).into_response()
        }
        Some(Answer::Never) => future::pending().await,
    }
}

async fn fixture(answers: impl IntoIterator<Item = Answer>) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("gateway.db")).unwrap();
    let hook = Hook::default();
    hook.answers.lock().unwrap().extend(answers);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/hook?token=canary",
        listener.local_addr().unwrap()
    );
    let router = Router::new().fallback(take).with_state(hook.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Fixture {
        _dir: dir,
        store,
        url: url.parse().unwrap(),
        hook,
    }
}

fn target(url: &Uri) -> Target {
    Target::new(url.clone(), Signer::parse(SECRET).unwrap())
}

fn alert(subject: &str, threshold: u8) -> Alert {
    Alert {
        id: format!("{subject}-{threshold}"),
        subject: subject.to_owned(),
        alert_type: "daily_tokens".to_owned(),
        threshold,
        window_start: UNIX_EPOCH,
        used: 80,
        amount: 100,
        state: AlertState::Triggered,
        triggered_at: clock::now(),
        resolved: None,
        attempts: 0,
    }
}

impl Fixture {
    fn sender(&self) -> Sender {
        let receiver = Receiver::new(target(&self.url)).unwrap();
        Sender::new(self.store.clone(), receiver)
    }

    async fn put(&self, alert: Alert) {
        assert!(self.store.put_alert(alert, true).await.unwrap());
    }

    /// Makes what is to be delivered due.
    async fn pass_time(&self) {
        for alert in self.store.alerts(None, None).await.unwrap() {
            let due = self.store.delay_delivery(alert.id, SystemTime::UNIX_EPOCH);
            due.await.unwrap();
        }
    }

    fn seen(&self) -> Vec<String> {
        let seen = self.hook.seen.lock().unwrap();
        let ids = seen.iter().map(|(_, headers, _)| &headers["webhook-id"]);
        ids.map(|id| id.to_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn what_arrives_is_signed_and_shows_the_alert_as_the_api_does() {
    let fixture = fixture([]).await;
    fixture.put(alert("alice", 80)).await;
    assert!(fixture.sender().send_due().await);
    let shown = &fixture.store.alerts(None, None).await.unwrap()[0];
    let seen = fixture.hook.seen.lock().unwrap();
    let [(uri, headers, body)] = seen.as_slice() else {
        panic!("{seen:?}");
    };
    assert_eq!(uri, "/hook?token=canary");
    assert_eq!(headers[CONTENT_TYPE], "application/json");
    let at: u64 = headers["webhook-timestamp"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let signature = Signer::parse(SECRET).unwrap().sign("alice-80", at, body);
    assert_eq!(headers["webhook-signature"], signature);
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body["type"], "quota.alert");
    assert_eq!(body["timestamp"], body["data"]["triggeredAt"]);
    assert_eq!(
        body["data"],
        serde_json::json!(crate::api::shown_alert(shown))
    );
}

#[tokio::test]
async fn what_is_refused_is_sent_again_with_the_same_id_until_it_is_taken() {
    let error = Answer::Status(StatusCode::INTERNAL_SERVER_ERROR);
    let fixture = fixture([error, Answer::Redirect]).await;
    let sender = fixture.sender();
    fixture.put(alert("alice", 80)).await;
    for attempt in 1..=3 {
        assert!(sender.send_due().await);
        assert!(!sender.send_due().await, "not at once");
        assert_eq!(fixture.seen(), vec!["alice-80"; attempt]);
        fixture.pass_time().await;
    }
    assert!(!sender.send_due().await, "it was delivered");
    let seen = fixture.hook.seen.lock().unwrap();
    assert!(seen.iter().all(|(uri, _, _)| uri.path() == "/hook"));
}

#[tokio::test]
async fn what_is_not_answered_in_time_is_sent_again() {
    let fixture = fixture([Answer::Never]).await;
    let mut receiver = Receiver::new(target(&fixture.url)).unwrap();
    receiver.attempt = Duration::from_millis(50);
    let sender = Sender::new(fixture.store.clone(), receiver);
    fixture.put(alert("alice", 80)).await;
    assert!(sender.send_due().await);
    fixture.pass_time().await;
    assert!(fixture.sender().send_due().await);
    fixture.pass_time().await;
    assert!(!sender.send_due().await);
    assert_eq!(fixture.seen(), ["alice-80", "alice-80"]);
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_it() {
    let fixture = fixture([Answer::Endless]).await;
    fixture.put(alert("alice", 80)).await;
    let sent = timeout(LIMIT, fixture.sender().send_due()).await;
    assert_eq!(sent, Ok(true));
    fixture.pass_time().await;
    assert!(!fixture.sender().send_due().await);
}

#[tokio::test]
async fn what_a_receiver_wants_no_more_or_has_refused_for_days_is_given_up() {
    let days = Duration::from_secs(3 * 86_400);
    let error = Answer::Status(StatusCode::INTERNAL_SERVER_ERROR);
    let fixture = fixture([Answer::Status(StatusCode::GONE), error]).await;
    let mut old = alert("bob", 80);
    old.triggered_at -= days;
    fixture.put(alert("alice", 80)).await;
    fixture.put(old).await;
    let sender = fixture.sender();
    assert!(sender.send_due().await);
    fixture.pass_time().await;
    assert!(!sender.send_due().await);
    assert_eq!(fixture.seen(), ["alice-80", "bob-80"]);
}

#[tokio::test]
async fn a_persons_alerts_wait_for_an_earlier_one_and_others_do_not() {
    let error = Answer::Status(StatusCode::SERVICE_UNAVAILABLE);
    let fixture = fixture([error]).await;
    for threshold in [80, 90, 100] {
        fixture.put(alert("alice", threshold)).await;
    }
    fixture.put(alert("bob", 80)).await;
    let sender = fixture.sender();
    assert!(sender.send_due().await);
    assert_eq!(fixture.seen(), ["alice-80", "bob-80"]);
    fixture.pass_time().await;
    while sender.send_due().await {}
    let rest = ["alice-80", "alice-90", "alice-100"];
    assert_eq!(fixture.seen()[2..], rest);
}

#[tokio::test]
async fn what_a_gateway_has_left_is_sent_by_the_next() {
    let fixture = fixture([]).await;
    fixture.put(alert("alice", 80)).await;
    // One that dies with it.
    let claimed = fixture.store.claim_deliveries(5, Duration::ZERO).await;
    assert_eq!(claimed.unwrap().len(), 1);
    let stop = CancellationToken::new();
    let _stopped_after = stop.clone().drop_guard();
    super::start(target(&fixture.url), fixture.store.clone(), stop).unwrap();
    timeout(LIMIT, fixture.hook.came.notified()).await.unwrap();
    assert_eq!(fixture.seen(), ["alice-80"]);
}

#[tokio::test]
async fn of_two_who_send_each_sends_what_the_other_does_not() {
    let fixture = fixture([]).await;
    for n in 0..40 {
        fixture.put(alert(&format!("person-{n:02}"), 80)).await;
    }
    let all = |sender: Sender| async move { while sender.send_due().await {} };
    tokio::join!(all(fixture.sender()), all(fixture.sender()));
    let mut seen = fixture.seen();
    seen.sort();
    let each = (0..40).map(|n| format!("person-{n:02}-80"));
    assert_eq!(seen, each.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_new_alert_is_delivered_at_once_and_nothing_after_the_stop() {
    let taken = Answer::Status(StatusCode::OK);
    let fixture = fixture([taken, Answer::Never]).await;
    let stop = CancellationToken::new();
    let alerts = Alerts::new(fixture.store.clone(), &BTreeMap::new());
    let hook = Some(target(&fixture.url));
    let alerts = alerts.deliver(hook, stop.clone()).unwrap();
    let limits = Limits::new([Limit::at_most(Dimension::Tokens, Window::Day, 100)]);
    let quota = MemoryStore::new(limits.unwrap());
    let alice = Subject::new("alice");
    let uses = async |tokens| {
        quota.add_used(&alice, clock::now(), Amounts::new().tokens(tokens));
        alerts.look(&quota, &alice).await;
    };
    for (tokens, arrived) in [(80, 1), (10, 2)] {
        uses(tokens).await;
        let came = timeout(LIMIT, fixture.hook.came.notified());
        came.await.unwrap();
        assert_eq!(fixture.seen().len(), arrived);
    }
    stop.cancel();
    tokio::task::yield_now().await;
    uses(10).await;
    let left = fixture.store.claim_deliveries(5, Duration::ZERO).await;
    let left: Vec<_> = left.unwrap().iter().map(|alert| alert.threshold).collect();
    assert_eq!(left, [100], "the next gateway sends it");
}

#[tokio::test]
async fn nothing_is_kept_for_delivery_where_there_is_no_webhook() {
    let fixture = fixture([]).await;
    let alerts = Alerts::new(fixture.store.clone(), &BTreeMap::new());
    let alerts = alerts.deliver(None, CancellationToken::new()).unwrap();
    let limits = Limits::new([Limit::at_most(Dimension::Tokens, Window::Day, 100)]);
    let quota = MemoryStore::new(limits.unwrap());
    let alice = Subject::new("alice");
    quota.add_used(&alice, clock::now(), Amounts::new().tokens(80));
    alerts.look(&quota, &alice).await;
    assert_eq!(fixture.store.alerts(None, None).await.unwrap().len(), 1);
    fixture.pass_time().await;
    assert!(!fixture.sender().send_due().await);
}

#[tokio::test]
async fn a_failure_says_what_the_receiver_asks_for_and_no_url() {
    let asking = Answer::Asking(StatusCode::TOO_MANY_REQUESTS, "30");
    let fixture = fixture([asking]).await;
    let send = async |url: &Uri| {
        let receiver = Receiver::new(target(url)).unwrap();
        receiver.send(&alert("alice", 80)).await.unwrap_err()
    };
    let asked = send(&fixture.url).await;
    assert_eq!(asked.retry_after(), Some(Duration::from_secs(30)));

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let nobody = format!("http://{address}/canary").parse().unwrap();
    let nobody = send(&nobody).await;
    assert_eq!(
        nobody.to_string(),
        "the receiver cannot be reached: connection refused"
    );

    let in_clear = fixture.url.to_string().replacen("http:", "https:", 1);
    let no_tls = send(&in_clear.parse().unwrap()).await;
    assert!(matches!(no_tls, Failure::Untrusted), "{no_tls}");
}
