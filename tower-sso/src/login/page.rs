//! Answers: pages for browsers, JSON for all others, redirects.

use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
        RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use http_body_util::Full;

use super::{failure::Failure, navigation::wants_page};

/// What the service answers with.
pub(super) type Answer = Response<Full<Bytes>>;

/// A link on a page. Its text is shown escaped.
pub(super) struct Link {
    pub(super) address: String,
    pub(super) text: String,
}

/// A failure in the form the client wants, with a link that begins anew.
pub(super) fn fail(failure: Failure, headers: &HeaderMap, again: String) -> Answer {
    let mut answer = if wants_page(headers) {
        let link = Link {
            address: again,
            text: "Sign in again".to_owned(),
        };
        let links: &[Link] = if failure.is_about_sign_in() {
            &[link]
        } else {
            &[]
        };
        page(failure.status(), "Sign-in", failure.message(), links)
    } else {
        let (code, message) = (failure.code(), failure.message());
        json(
            failure.status(),
            format!(r#"{{"error":{{"code":"{code}","message":"{message}","details":{{}}}}}}"#),
        )
    };
    let headers = answer.headers_mut();
    if let Some(seconds) = failure.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    if let Failure::Method(allowed) = failure {
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    answer
}

/// A page of static text and links, without anything active.
pub(super) fn page(status: StatusCode, title: &str, text: &str, links: &[Link]) -> Answer {
    let (title, text) = (escape(title), escape(text));
    let links: String = links
        .iter()
        .map(|link| {
            let (address, text) = (escape(&link.address), escape(&link.text));
            format!("<p><a href=\"{address}\">{text}</a></p>\n")
        })
        .collect();
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>{title}</h1>\n<p>{text}</p>\n{links}</main>\n</body>\n</html>\n"
    );
    let mut answer = answer(status, html);
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(CONTENT_SECURITY_POLICY, page_policy());
    answer
}

/// JSON text.
pub(super) fn json(status: StatusCode, text: String) -> Answer {
    let mut answer = answer(status, text);
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// Sends the browser elsewhere, by a GET whatever its request was (RFC 9700 section 4.12).
pub(super) fn redirect(location: &str) -> Result<Answer, Failure> {
    let location = HeaderValue::try_from(location).map_err(|_| Failure::Internal)?;
    let mut answer = answer(StatusCode::SEE_OTHER, String::new());
    answer.headers_mut().insert(LOCATION, location);
    Ok(answer)
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Answer {
    answer(status, String::new())
}

/// Nothing of a sign-in is stored, framed, or told to whom it leads to: addresses of callbacks hold
/// codes.
fn answer(status: StatusCode, text: String) -> Answer {
    const HEADERS: [(HeaderName, &str); 5] = [
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
    ];
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// The style of all pages, allowed by its hash.
const STYLE: &str = "\
:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}\
body{margin:0;display:grid;min-height:100vh;place-items:center}\
main{max-width:24rem;padding:2rem}\
h1{font-size:1.5rem;margin:0 0 1rem}\
a{display:block;padding:.75rem 1rem;border:1px solid;border-radius:.5rem;\
color:inherit;text-decoration:none;text-align:center}\
a:hover,a:focus-visible{background:#8883}";

fn page_policy() -> HeaderValue {
    static POLICY: OnceLock<HeaderValue> = OnceLock::new();
    let policy = POLICY.get_or_init(|| {
        let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        // Base64 in ASCII text: it is a header value.
        HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
    });
    policy.clone()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;
    use http_body_util::BodyExt as _;

    use super::*;

    async fn text(answer: Answer) -> String {
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn browser() -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/html,*/*"))])
    }

    #[tokio::test]
    async fn d7_67_a_page_shows_text_and_runs_nothing() {
        let link = Link {
            address: "/a?b=\"><script>".to_owned(),
            text: "<b>'&".to_owned(),
        };
        let answer = page(StatusCode::OK, "<t>", "<i>", &[link]);
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        for part in [
            "form-action 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        let html = text(answer).await;
        assert!(html.contains("<a href=\"/a?b=&quot;&gt;&lt;script&gt;\">&lt;b&gt;&#39;&amp;</a>"));
        assert!(html.contains("<h1>&lt;t&gt;</h1>\n<p>&lt;i&gt;</p>"));
        assert!(!html.contains("<script") && !html.contains("<b>") && !html.contains("<i>"));
    }

    #[tokio::test]
    async fn d7_67_the_hash_of_the_style_is_that_of_the_page() {
        let answer = page(StatusCode::OK, "t", "x", &[]);
        let policy = answer.headers()[CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap()
            .to_owned();
        let html = text(answer).await;
        let (_, rest) = html.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
        assert!(policy.contains(&format!("'sha256-{hash}'")));
    }

    #[tokio::test]
    async fn a_failure_is_a_page_for_browsers_and_json_for_all_others() {
        let answer = fail(
            Failure::ProviderUnavailable,
            &browser(),
            "/auth/login".to_owned(),
        );
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[RETRY_AFTER], "10");
        let html = text(answer).await;
        assert!(html.contains("does not answer") && html.contains("href=\"/auth/login\""));

        let answer = fail(Failure::NotPending, &HeaderMap::new(), String::new());
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
        let body = text(answer).await;
        assert!(
            body.starts_with(r#"{"error":{"code":"sign_in_expired","message":"#),
            "{body}"
        );
        assert!(body.ends_with(r#","details":{}}}"#), "{body}");
    }

    #[test]
    fn every_answer_keeps_what_it_is_about_to_itself() {
        for answer in [
            page(StatusCode::OK, "t", "x", &[]),
            json(StatusCode::OK, "{}".to_owned()),
            redirect("https://a.example/").unwrap(),
            empty(StatusCode::OK),
            fail(Failure::Method("GET"), &browser(), String::new()),
        ] {
            let headers = answer.headers();
            assert_eq!(headers[CACHE_CONTROL], "no-store");
            assert_eq!(headers[REFERRER_POLICY], "no-referrer");
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
            let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains("frame-ancestors 'none'"));
        }
    }

    #[test]
    fn d2_27_a_location_cannot_end_its_header() {
        assert_eq!(
            redirect("https://a.example/\r\nx: y").err(),
            Some(Failure::Internal)
        );
    }
}
