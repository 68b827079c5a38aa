use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{StatusCode, Uri};
use serde_json::{Map, Value};
use tower_sso::Identity;
use tracing::warn;

use super::proxy::Missing;
use crate::api::{Api, ApiError};
use crate::environment::EnvironmentError;

/// Members of the page's configuration that are the same for everybody and say nothing of the host.
const CONFIGURATION: [&str; 13] = [
    "allowExternalEmbedUrls",
    "assistantAvatar",
    "assistantAvatarReason",
    "assistantAvatarSource",
    "assistantAvatarStatus",
    "assistantName",
    "automaticallyFetchFavicons",
    "basePath",
    "communityInvite",
    "embedSandbox",
    "pluginAssetsRequireAuth",
    "serverBuildId",
    "serverVersion",
];

/// The page, at whatever address of its own: it finds out itself what to show.
pub(super) async fn page(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    headers: HeaderMap,
) -> Response {
    let html = get(&api, &identity, "/", &headers).await;
    let mut html = html.unwrap_or_else(|error| not_there(&error));
    // Who is signed in may be another one the next time.
    let headers = html.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    html
}

/// A file of the page.
pub(super) async fn file(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let path = uri.path();
    if !is_plain(path) {
        return nothing();
    }
    match get(&api, &identity, path, &headers).await {
        // For what it has not, the instance answers with its page.
        Ok(answer) if is_page(&answer) => nothing(),
        Ok(answer) => answer,
        Err(error) => not_there(&error),
    }
}

/// A file, from the instance that somebody is on.
async fn get(
    api: &Api,
    identity: &Identity,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response, Missing> {
    let upstream = api.environments.upstream_for(identity.user_id()).await?;
    api.pages.get(&upstream.dialer, path, headers).await
}

/// The page's configuration, with the user's own agent in place of the instance's.
pub(super) async fn configuration(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
) -> Result<Response, ApiError> {
    let opened = api.environments.open(&identity).await;
    let environment = opened.map_err(|error| match error {
        EnvironmentError::InvalidUser(_) => {
            ApiError::forbidden("your user id cannot have a workspace here")
        }
        EnvironmentError::Cell(error) => ApiError::cell(&error),
        error => ApiError::unavailable("environment", &error),
    })?;
    let (workspace, dialer) = (&environment.workspace, &environment.upstream.dialer);
    let agent = workspace.slot().unwrap_or_default();
    let text = api
        .pages
        .read(dialer, "/control-ui-config.json", workspace.name().as_str())
        .await;
    let text = text.map_err(|error| ApiError::unavailable("instance", &error))?;
    let theirs: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| ApiError::unavailable("instance", &error))?;
    let shown = own_configuration(theirs, agent);
    let kind = HeaderValue::from_static("application/json");
    Ok(([(CONTENT_TYPE, kind)], shown.to_string()).into_response())
}

fn own_configuration(theirs: Map<String, Value>, agent: &str) -> Value {
    let mut shown: Map<String, Value> = theirs
        .into_iter()
        .filter(|(name, _)| CONFIGURATION.contains(&&**name))
        .collect();
    shown.insert("assistantAgentId".to_owned(), agent.into());
    // Paths of the host, and a shell on it, are nobody's here.
    shown.insert(
        "localMediaPreviewRoots".to_owned(),
        Value::Array(Vec::new()),
    );
    shown.insert("terminalEnabled".to_owned(), false.into());
    Value::Object(shown)
}

fn is_page(answer: &Response) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}

/// Whether everybody on the way reads a path alike: no escapes, no dot segments, no empty ones.
fn is_plain(path: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~@+".contains(&byte);
    let is_name = |segment: &str| {
        !segment.is_empty()
            && !segment.bytes().all(|byte| byte == b'.')
            && segment.bytes().all(fits)
    };
    path.strip_prefix('/')
        .is_some_and(|path| path.split('/').all(is_name))
}

fn nothing() -> Response {
    StatusCode::NOT_FOUND.into_response()
}

fn not_there(error: &Missing) -> Response {
    if let Some(error) = error.cell() {
        // The browser asks again by itself.
        let again = ["retry-after", "refresh"].map(|name| (name, HeaderValue::from_static("3")));
        let text = format!("{}\n", error.sentence());
        return (StatusCode::SERVICE_UNAVAILABLE, again, text).into_response();
    }
    warn!(
        error = error as &(dyn std::error::Error + 'static),
        "page was not served"
    );
    let text = "The assistant is not reachable right now. Try again in a moment.\n";
    let retry = [(RETRY_AFTER, HeaderValue::from_static("5"))];
    (StatusCode::SERVICE_UNAVAILABLE, retry, text).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn d2_25_a_path_that_can_be_read_in_two_ways_is_nothing() {
        for path in [
            "/assets/index-BxY_1.js",
            "/fonts/inter/a.woff2",
            "/sw.js",
            "/assets/a@2x.png",
            "/a/..b",
        ] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "",
            "assets/a.js",
            "/",
            "//assets/a.js",
            "/assets//a.js",
            "/assets/",
            "/assets/../config",
            "/assets/.",
            "/assets/%2e%2e/config",
            "/assets/%2E%2E%2Fconfig",
            "/assets/..%2fconfig",
            "/assets/a%00.js",
            "/assets/a\\..\\b",
            "/assets/a;b",
            "/assets/a#b",
            "/assets/a?b",
            "/assets/...",
            "/assets/ä.js",
            "/assets/a b",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn the_configuration_names_the_own_agent_and_nothing_of_the_host() {
        let theirs = json!({
            "basePath": "", "assistantAgentId": "main", "assistantName": "Assistant", "serverVersion": "2026.9.6",
            "localMediaPreviewRoots": ["/root/media"], "terminalEnabled": true, "devGitBranch": null, "x": "/etc",
        });
        let Value::Object(theirs) = theirs else {
            panic!()
        };
        let shown = own_configuration(theirs, "slot-001").to_string();
        assert!(shown.contains(r#""assistantAgentId":"slot-001""#));
        for foreign in ["main", "/root", "/etc", "true"] {
            assert!(!shown.contains(foreign), "{foreign}: {shown}");
        }
    }
}
