use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{StatusCode, Uri};
use serde_json::{Map, Value};
use tokio::time::timeout;
use tower_sso::Identity;

use super::waiting::Waiting;
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

/// How long a browser waits for somebody's workspace before it says so: what takes longer goes on meanwhile.
const OPEN: Duration = Duration::from_secs(5);

/// The page, at whatever address of its own: it finds out itself what to show. It is not shown to somebody before they can
/// work with it: it would not find out by itself that it can be.
pub(super) async fn page(
    State(api): State<Api>,
    Extension(identity): Extension<Arc<Identity>>,
    headers: HeaderMap,
) -> Response {
    let html = html(&api, &identity, &headers).await;
    let mut html = html.unwrap_or_else(|waiting| waiting.answer(&headers));
    // Who is signed in may be another one the next time.
    let headers = html.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    html
}

async fn html(
    api: &Api,
    identity: &Arc<Identity>,
    headers: &HeaderMap,
) -> Result<Response, Waiting> {
    let opened = timeout(OPEN, api.environments.open(identity)).await;
    let environment = opened.map_err(|_| Waiting::for_workspace())??;
    let html = api.pages.get(&environment.upstream.dialer, "/", headers);
    let html = html.await?;
    match html.status().is_server_error() {
        true => Err(Waiting::for_instance()),
        false => Ok(html),
    }
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
        Err(waiting) => waiting.answer(&headers),
    }
}

/// A file, from the instance that somebody is on.
async fn get(
    api: &Api,
    identity: &Identity,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response, Waiting> {
    let upstream = api.environments.upstream_for(identity.user_id()).await?;
    Ok(api.pages.get(&upstream.dialer, path, headers).await?)
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
