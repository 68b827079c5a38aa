//! The same over HTTP, and upgrades that say that they are hers.

use ::http::{Method, Request};
use gateway_tests::{
    error::{Error, Result},
    http,
    person::connect_params,
    ws::Ws,
};
use serde_json::json;

use crate::people::{Hers, Two, agent_of};

/// Headers that name a user, an agent or a session somewhere, in the spellings that become the same.
const HEADERS: [&str; 14] = [
    "x-forwarded-user",
    "X_Forwarded_User",
    "x-user-id",
    "X_User_Id",
    "x-auth-request-user",
    "x-auth-request-email",
    "x-session-key",
    "x-openclaw-session-key",
    "x-openclaw-agent-id",
    "x-openclaw-scopes",
    "x-openclaw-agent",
    "x-forwarded-email",
    "x-original-url",
    "forwarded",
];

pub(crate) async fn tried(two: &mut Two) -> Result<()> {
    let Hers {
        canary,
        agent,
        session,
        session_id,
        run,
        ..
    } = &two.hers;
    let encoded = session.replace(':', "%3A");
    let bearer = format!("Bearer {}", two.bob_himself.token);
    let mut told = String::new();
    let names = [canary, agent, session, &encoded, session_id, run];
    let mut paths = Vec::new();
    for name in names {
        for path in [
            "/chat/",
            "/assets/",
            "/api/users/",
            "/api/admin/users/",
            "/api/quota/",
            "/api/usage/",
            "/api/keys/",
            "/api/sessions/",
            "/api/alerts/",
            "/v1/models/",
            "/v1/responses/",
            "/__openclaw__/canvas/",
            "/media/",
        ] {
            paths.push(format!("{path}{name}"));
        }
        paths.push(format!("/api/users/{name}/avatar"));
        paths.push(format!("/api/admin/users/{name}/quota"));
        for path in [
            "/",
            "/chat",
            "/control-ui-config.json",
            "/api/user/info",
            "/api/openclaw/status",
            "/api/openclaw/credentials",
            "/api/quota",
            "/api/quota/explain",
            "/api/usage",
            "/api/usage/records",
            "/api/keys",
            "/api/alerts",
            "/api/admin/users",
            "/api/admin/quotas",
            "/health",
            "/readyz",
            "/metrics",
        ] {
            paths.push(format!(
                "{path}?user={name}&user_id={name}&subject={name}&session={name}&agentId={name}"
            ));
        }
    }
    for path in &paths {
        let mut request = Request::get(two.gateway.url(path)).header("authorization", &bearer);
        for header in HEADERS {
            request = request.header(header, canary.as_str());
        }
        let answer = http::send(request, "").await?;
        told.push_str(&format!("{:?} {}\n", answer.headers, answer.text()));
    }
    // What asks a model, or a tool.
    let never = &two.never;
    for path in [
        "/v1/chat/completions",
        "/v1/responses",
        "/tools/invoke",
        "/api/chat",
        "/api/admin/quotas",
        "/hooks/agent",
    ] {
        for model in [
            format!("openclaw/{agent}"),
            format!("openclaw:{agent}"),
            agent.clone(),
        ] {
            let body = json!({
                "model": model, "messages": [{"role": "user", "content": never}], "input": never, "user": session,
                "tool": "read", "sessionKey": session, "agentId": agent, "args": {"path": "diary.txt"},
            });
            for method in [Method::POST, Method::PUT] {
                let mut request = Request::builder()
                    .method(method)
                    .uri(two.gateway.url(path))
                    .header("authorization", &bearer)
                    .header("content-type", "application/json");
                for header in HEADERS {
                    request = request.header(header, session.as_str());
                }
                let answer = http::send(request, body.to_string()).await?;
                assert!(
                    !answer.status.is_success(),
                    "{path} {body}: {}",
                    answer.text()
                );
                told.push_str(&answer.text());
            }
        }
    }
    // Sockets that say that they are hers.
    for path in [
        "/ws",
        "/",
        &format!("/ws?session={encoded}&user={canary}&agentId={agent}"),
    ] {
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(HEADERS.map(|header| (header, canary.as_str())));
        let mut ws = Ws::connect(&two.gateway.ws_url(path), &headers).await?;
        ws.listen();
        ws.event("connect.challenge").await?;
        let hello = ws.call("connect", connect_params(&json!({}))).await?;
        let own = &hello["snapshot"]["sessionDefaults"]["defaultAgentId"];
        assert_eq!(*own, agent_of(&two.bob).as_str(), "{path}: {hello}");
        told.push_str(ws.heard());
    }
    for path in [
        format!("/ws/{agent}"),
        format!("/chat/{agent}"),
        format!("/gateway/{encoded}/ws"),
    ] {
        let upgrade = Ws::connect(&two.gateway.ws_url(&path), &[("authorization", &bearer)]).await;
        assert!(matches!(upgrade, Err(Error::Refused(_))), "{path}");
    }
    two.told.push_str(&told);
    two.nothing_was_heard();
    Ok(())
}
