use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::message::encode;
use super::span::{Ended, install};

/// Sends what has ended to a collector, many at a time.
pub struct Exporter {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    spans: mpsc::Receiver<Ended>,
    resource: [(&'static str, String); 3],
    is_reached: bool,
}

/// Why nothing is sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExporterError {
    /// The address is none.
    #[error("is no http:// or https:// URL")]
    Url,
    /// This host has no certificates that it trusts.
    #[error("certificates of this host")]
    Certificates(#[source] io::Error),
    /// There is an exporter already.
    #[error("spans go elsewhere already")]
    Installed,
}

/// Where spans wait for the exporter. Whoever puts one never waits.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<Ended>,
    /// Of traces that begin here those are recorded whose number is below.
    below: u64,
}

/// Most spans that wait; those beyond are dropped, and counted.
const WAITING: usize = 8_192;

/// Most spans of one message.
const BATCH: usize = 512;

/// How long spans wait for others.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a collector may take.
const ANSWER: Duration = Duration::from_secs(5);

/// What is read of its answer.
const MAX_ANSWER: usize = 64 << 10;

/// Where a collector takes traces (OTLP/HTTP specification, "OTLP/HTTP Request").
const PATH: &str = "v1/traces";

fn dropped(why: &'static str, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    metrics::counter!("gateway_spans_dropped_total", "why" => why).increment(count);
}

// === impl Exporter ===

impl Exporter {
    /// Spans begin from now on, of `share` of the traces that begin here and of all that others want recorded, and wait for
    /// this to [`run`](Self::run). `name` is by which the collector knows this service.
    ///
    /// # Errors
    ///
    /// See [`ExporterError`]; then there are no spans.
    pub fn install(endpoint: &str, share: f64, name: String) -> Result<Self, ExporterError> {
        let url = format!("{}/{PATH}", endpoint.trim_end_matches('/'));
        let url: Uri = url.parse().map_err(|_| ExporterError::Url)?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(ExporterError::Url);
        }
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(ExporterError::Certificates)?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        let (sender, spans) = mpsc::channel(WAITING);
        // Beyond what an f64 can tell apart nobody asks for.
        let below = (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        let queue = Queue {
            spans: sender,
            below,
        };
        if !install(queue) {
            return Err(ExporterError::Installed);
        }
        Ok(Self {
            url,
            client,
            spans,
            resource: [
                ("service.name", name),
                ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
                ("service.instance.id", uuid::Uuid::new_v4().to_string()),
            ],
            is_reached: true,
        })
    }

    /// Sends what comes until `stop`, and then what is still there, once.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let is_last = tokio::select! {
                _ = self.spans.recv_many(&mut batch, BATCH) => false,
                () = stop.cancelled() => true,
            };
            if !is_last && batch.len() < BATCH {
                let _ = timeout(PAUSE, stop.cancelled()).await;
            }
            while batch.len() < BATCH {
                let Ok(span) = self.spans.try_recv() else {
                    break;
                };
                batch.push(span);
            }
            let count = batch.len();
            if count > 0 {
                let spans = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                self.send(spans, count).await;
            }
            if is_last {
                return;
            }
        }
    }

    async fn send(&mut self, spans: Vec<Ended>, count: usize) {
        let body = encode(spans, &self.resource);
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(CONTENT_TYPE, protobuf);
        let sent = timeout(ANSWER, async {
            let answer = self.client.request(request).await.ok()?;
            let is_taken = answer.status().is_success();
            // A connection whose answer was not read is not used again.
            let _ = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            is_taken.then_some(())
        });
        let is_reached = matches!(sent.await, Ok(Some(())));
        match is_reached {
            true => {
                let count = u64::try_from(count).unwrap_or(u64::MAX);
                metrics::counter!("gateway_spans_sent_total").increment(count);
            }
            // Nothing is kept for later: a collector that comes back has enough to do.
            false => dropped("collector", count),
        }
        if self.is_reached != is_reached {
            self.is_reached = is_reached;
            match is_reached {
                true => info!("the collector takes spans again"),
                false => warn!("the collector does not take spans; they are dropped"),
            }
        }
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

// === impl Queue ===

impl Queue {
    /// Whether a trace that begins here is recorded, by its id, so that all who see it decide alike.
    pub(super) fn samples(&self, trace: &[u8; 16]) -> bool {
        let number = trace
            .last_chunk::<8>()
            .map(|last| u64::from_be_bytes(*last));
        number.is_some_and(|number| number < self.below)
    }

    pub(super) fn put(&self, span: Ended) {
        match self.spans.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => dropped("queue", 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::telemetry::recorder;
    use crate::telemetry::trace::Role;

    fn ended() -> Ended {
        let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        Ended {
            name: "run".into(),
            role: Role::Server,
            own: own.parse().unwrap(),
            parent: None,
            link: None,
            begin: UNIX_EPOCH,
            end: UNIX_EPOCH,
            texts: Vec::new(),
            numbers: Vec::new(),
            failure: None,
        }
    }

    #[test]
    fn whoever_puts_a_span_does_not_wait_and_what_is_too_much_is_counted() {
        let recorder = recorder().unwrap();
        let (spans, mut waiting) = mpsc::channel(2);
        let queue = Queue { spans, below: 0 };
        metrics::with_local_recorder(&recorder, || (0..5).for_each(|_| queue.put(ended())));
        assert_eq!(waiting.len(), 2);
        let text = recorder.handle().render();
        assert!(
            text.contains(r#"gateway_spans_dropped_total{why="queue"} 3"#),
            "{text}"
        );
        assert_eq!(
            waiting.try_recv().unwrap().own.to_string(),
            ended().own.to_string()
        );
    }

    #[test]
    fn a_share_of_traces_is_recorded() {
        let queue = |below| Queue {
            spans: mpsc::channel(1).0,
            below,
        };
        let trace = |last: u64| {
            let mut trace = [7; 16];
            trace[8..].copy_from_slice(&last.to_be_bytes());
            trace
        };
        let half = queue(u64::MAX / 2);
        assert!(half.samples(&trace(1)) && !half.samples(&trace(u64::MAX - 1)));
        assert!(!queue(0).samples(&trace(0)));
        assert!(queue(u64::MAX).samples(&trace(u64::MAX - 1)));
    }
}
