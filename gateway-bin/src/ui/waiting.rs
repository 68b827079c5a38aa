use std::error::Error;
use std::time::Duration;

use axum::response::{Html, IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, REFRESH, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use tracing::warn;

use super::proxy::Missing;
use crate::api::{ApiError, NOTHING_RUNS};
use crate::cells::CellError;
use crate::environment::{EnvironmentError, NO_SANDBOX};

/// Why somebody does not see OpenClaw's page yet, in a sentence for them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Waiting {
    status: StatusCode,
    code: &'static str,
    sentence: &'static str,
    /// When it may be otherwise; `None`: it will not be by itself.
    again: Option<Duration>,
}

/// Something restarts, or takes its moment.
const SOON: Duration = Duration::from_secs(3);

/// Somebody has to do something about it.
const LATER: Duration = Duration::from_secs(60);

/// How often a browser asks at least: who looks at the page sees it when it is there.
const RELOAD: Duration = Duration::from_secs(15);

const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

// === impl Waiting ===

impl Waiting {
    /// The workspace is being made, or put right.
    pub(super) const fn for_workspace() -> Self {
        Self::unavailable("Your workspace is not ready yet.", SOON)
    }

    /// The instance is not there, or says that it is not ready.
    pub(super) const fn for_instance() -> Self {
        Self::unavailable("The assistant is not reachable right now.", SOON)
    }

    const fn unavailable(sentence: &'static str, again: Duration) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "unavailable",
            sentence,
            again: Some(again),
        }
    }

    /// The answer to a request with these headers: a page that loads itself again where a browser wants something to show,
    /// else JSON.
    pub(super) fn answer(self, asked: &HeaderMap) -> Response {
        let mut response = match wants_page(asked) {
            true => self.page(),
            false => ApiError::new(self.status, self.code, self.sentence).into_response(),
        };
        if let Some(again) = self.again {
            let seconds = HeaderValue::from(again.as_secs().max(1));
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }

    fn page(self) -> Response {
        let goes_on = match self.again {
            Some(_) => "This page loads itself again until it is there.",
            None => "Please tell whoever runs this service.",
        };
        let sentence = self.sentence;
        let page = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>OpenClaw</title>\n\
             <h1>{sentence}</h1>\n<p>{goes_on}</p>\n</html>\n"
        );
        let policy = [(CONTENT_SECURITY_POLICY, NOTHING_RUNS)];
        let mut response = (self.status, policy, Html(page)).into_response();
        if let Some(again) = self.again {
            // A header, for no policy of contents is about it.
            let seconds = again.min(RELOAD).as_secs().max(1);
            let reload = HeaderValue::from(seconds);
            response.headers_mut().insert(REFRESH, reload);
        }
        response
    }
}

impl From<EnvironmentError> for Waiting {
    fn from(error: EnvironmentError) -> Self {
        match error {
            EnvironmentError::Cell(error) => Self {
                code: match error {
                    CellError::Starting { .. } => "starting",
                    _ => "unavailable",
                },
                again: error.retry_after(),
                ..Self::unavailable(error.sentence(), SOON)
            },
            EnvironmentError::InvalidUser(_) => Self {
                status: StatusCode::FORBIDDEN,
                code: "forbidden",
                sentence: "Your user id cannot have a workspace here.",
                again: None,
            },
            EnvironmentError::Full => {
                Self::unavailable("All places here are taken; tell your administrator.", LATER)
            }
            EnvironmentError::NoSandbox => Self::unavailable(NO_SANDBOX, LATER),
            EnvironmentError::Away(_) => Self::for_instance(),
            EnvironmentError::Unavailable { .. } => Self::for_workspace(),
        }
    }
}

impl From<Missing> for Waiting {
    fn from(error: Missing) -> Self {
        warn!(
            error = &error as &(dyn Error + 'static),
            "page was not served"
        );
        Self::for_instance()
    }
}

/// Whether a browser asks for something to show. It says so in `Sec-Fetch-Mode`; one that does not accepts HTML.
fn wants_page(headers: &HeaderMap) -> bool {
    if let Some(mode) = headers.get(FETCH_MODE) {
        return mode == HeaderValue::from_static("navigate");
    }
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|value| value.as_bytes().starts_with(b"text/html"))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const SENTENCE: &str = "Your OpenClaw is starting; this takes about half a minute.";

    fn starting(retry_after: Duration) -> Waiting {
        let error = CellError::Starting { retry_after };
        EnvironmentError::Cell(error).into()
    }

    async fn answer(waiting: Waiting, asked: &[(HeaderName, &'static str)]) -> (Response, String) {
        let asked = asked
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        let (head, body) = waiting.answer(&asked.collect()).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (Response::from_parts(head, axum::body::Body::empty()), text)
    }

    #[tokio::test]
    async fn a_browser_is_told_in_words_and_asks_again_by_itself() {
        let waiting = starting(Duration::from_secs(2));
        for asked in [
            &[(ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8")][..],
            &[(ACCEPT, "*/*"), (FETCH_MODE, "navigate")],
        ] {
            let (response, text) = answer(waiting, asked).await;
            assert_eq!(response.status(), 503);
            let headers = response.headers();
            assert_eq!(
                (&headers["retry-after"], &headers["refresh"]),
                (&HeaderValue::from(2), &HeaderValue::from(2))
            );
            assert!(
                text.contains(SENTENCE) && text.contains("loads itself"),
                "{text}"
            );
            let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{policy}");
        }
    }

    #[tokio::test]
    async fn a_script_is_told_in_json_and_when_to_ask_again() {
        for asked in [
            &[(ACCEPT, "*/*")][..],
            &[(ACCEPT, "text/html"), (FETCH_MODE, "cors")],
            &[],
        ] {
            let (response, text) = answer(starting(Duration::from_secs(7)), asked).await;
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()["retry-after"], "7");
            assert_eq!(response.headers().get(REFRESH), None);
            let told: serde_json::Value = serde_json::from_str(&text).unwrap();
            let error = &told["error"];
            assert_eq!(
                (&error["code"], &error["message"]),
                (&"starting".into(), &SENTENCE.into())
            );
        }
    }

    #[tokio::test]
    async fn who_has_to_wait_for_long_sees_it_soon_and_who_waits_in_vain_does_not_ask() {
        let page = &[(ACCEPT, "text/html")];
        let (response, _) = answer(EnvironmentError::Full.into(), page).await;
        let headers = response.headers();
        assert_eq!(
            (&headers["retry-after"], &headers["refresh"]),
            (&HeaderValue::from(60), &HeaderValue::from(15))
        );
        let name = tower_workspace::DirectoryName::for_user("").unwrap_err();
        for (error, status) in [
            (EnvironmentError::InvalidUser(name.clone()), 403),
            (EnvironmentError::Cell(CellError::Name(name)), 503),
        ] {
            let (response, text) = answer(error.into(), page).await;
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().get(REFRESH), None);
            assert!(!text.contains("loads itself"), "{text}");
        }
    }
}
