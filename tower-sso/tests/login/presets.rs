//! What is particular to some providers.

use serde_json::{Value, json};
use tower_sso::login::Provider;

use crate::support::*;

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const OTHER_TENANT: &str = "11111111-2222-3333-4444-555555555555";

fn issuer_of(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/v2.0")
}

/// A server for people of any tenant, and what Entra says of itself then.
fn any_tenant(change: impl FnOnce(Provider) -> Provider) -> (Setup, Server) {
    let setup = Setup::new();
    let address = |path: &str| format!("https://login.microsoftonline.com/{path}");
    setup.provider.state().metadata = json!({
        "issuer": issuer_of("{tenantid}"),
        "authorization_endpoint": address("authorize"),
        "token_endpoint": address("token"),
        "userinfo_endpoint": address("userinfo"),
        "jwks_uri": address("keys"),
        "authorization_response_iss_parameter_supported": null,
    });
    setup.provider.state().issuer = "https://login.microsoftonline.com".to_owned();
    let provider = change(Provider::entra("common").client(CLIENT, SECRET));
    let server = setup.server_with([provider], &[1], |login| login);
    (setup, server)
}

async fn sign_in(
    setup: &Setup,
    server: &Server,
    iss: Option<&str>,
    claims: Value,
) -> (u16, Browser) {
    setup.provider.state().claims = claims;
    let mut browser = Browser::default();
    let location = browser.begin(server, "").await;
    let callback = with(&setup.provider.authorize(&location), "iss", iss);
    let page = browser.get(server, callback.as_str()).await;
    (page.status.as_u16(), browser)
}

#[tokio::test]
async fn entra_names_the_tenant_in_the_issuer() {
    let (setup, server) = any_tenant(|provider| provider);
    for tenant in [TENANT, OTHER_TENANT] {
        let claims = json!({"iss": issuer_of(tenant), "tid": tenant});
        let (status, browser) = sign_in(&setup, &server, None, claims.clone()).await;
        assert_eq!(status, 303, "{tenant}");
        let identity = server.identity(&browser).await.unwrap();
        assert_eq!(identity.issuer(), issuer_of(tenant));
        assert_eq!(identity.provider(), "entra");
        assert_eq!(&**identity.user_id(), "entra|alice");
        let (status, _) = sign_in(&setup, &server, Some(&issuer_of(tenant)), claims).await;
        assert_eq!(status, 303, "a callback may name it");
    }
    for (iss, tid) in [
        (issuer_of(TENANT), json!(OTHER_TENANT)),
        (issuer_of(TENANT), json!(null)),
        (issuer_of(TENANT), json!(7)),
        (issuer_of("{tenantid}"), json!("{tenantid}")),
        (issuer_of("common"), json!("common")),
        (issuer_of(""), json!("")),
        (
            issuer_of(&TENANT.to_uppercase()),
            json!(TENANT.to_uppercase()),
        ),
        (
            issuer_of(&format!("{TENANT}/x")),
            json!(format!("{TENANT}/x")),
        ),
        (format!("https://evil.example/{TENANT}/v2.0"), json!(TENANT)),
        (
            format!("https://login.microsoftonline.com/{TENANT}/v2.0/"),
            json!(TENANT),
        ),
        (format!("https://sts.windows.net/{TENANT}/"), json!(TENANT)),
    ] {
        let (status, _) = sign_in(&setup, &server, None, json!({"iss": iss, "tid": tid})).await;
        assert_eq!(status, 400, "{iss} {tid}");
    }
    let claims = json!({"iss": issuer_of(TENANT), "tid": TENANT});
    let (status, _) = sign_in(&setup, &server, Some("https://evil.example"), claims).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn entra_can_be_bound_to_tenants() {
    let (setup, server) = any_tenant(|provider| provider.tenants([TENANT]));
    for (tenant, wanted) in [(TENANT, 303), (OTHER_TENANT, 400)] {
        let claims = json!({"iss": issuer_of(tenant), "tid": tenant});
        let (status, _) = sign_in(&setup, &server, None, claims).await;
        assert_eq!(status, wanted, "{tenant}");
    }
}

#[tokio::test]
async fn a_key_of_one_tenant_signs_nothing_for_another() {
    for (owner, wanted) in [
        (json!(issuer_of("{tenantid}")), 303),
        (json!(issuer_of(TENANT)), 303),
        (json!(issuer_of(OTHER_TENANT)), 400),
        (json!("https://evil.example"), 400),
    ] {
        let (setup, server) = any_tenant(|provider| provider);
        setup.provider.state().jwk = json!({"issuer": owner});
        let claims = json!({"iss": issuer_of(TENANT), "tid": TENANT});
        let (status, _) = sign_in(&setup, &server, None, claims).await;
        assert_eq!(status, wanted, "{owner}");
    }
}

#[tokio::test]
async fn a_logout_token_of_a_tenant_ends_sessions() {
    let (setup, server) = any_tenant(|provider| provider);
    let claims = json!({"iss": issuer_of(TENANT), "tid": TENANT});
    let (_, mut browser) = sign_in(&setup, &server, None, claims.clone()).await;
    assert!(server.identity(&browser).await.is_some());
    let body = format!("logout_token={}", setup.provider.logout_token(&claims));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let target = "/auth/backchannel-logout";
    let page = browser
        .send(&server, http::Method::POST, target, &form, &body)
        .await;
    assert_eq!(page.status, 200);
    assert!(server.identity(&browser).await.is_none());
}

#[tokio::test]
async fn google_gives_refresh_tokens_for_parameters_of_its_own() {
    for (offline, wanted) in [(false, None), (true, Some("offline"))] {
        let setup = Setup::new();
        setup.provider.state().issuer = "https://accounts.google.com".to_owned();
        setup.provider.state().metadata =
            json!({"scopes_supported": ["openid", "email", "profile"]});
        let provider = Provider::google().offline(offline).client(CLIENT, SECRET);
        let server = setup.server_with([provider], &[1], |login| login);
        let location = Browser::default().begin(&server, "").await;
        assert_eq!(parameter(&location, "access_type").as_deref(), wanted);
        assert_eq!(parameter(&location, "prompt").is_some(), offline);
        assert_eq!(
            parameter(&location, "scope").unwrap(),
            "openid profile email"
        );
    }
}

/// A server for people of a GitHub Enterprise Server.
fn github() -> (Setup, Server) {
    let setup = Setup::new();
    setup.provider.state().issuer = "https://idp.example/login/oauth".to_owned();
    // GitHub has no ID tokens, and names its kind of token in lower case.
    setup.provider.state().tokens =
        json!({"id_token": null, "refresh_token": null, "token_type": "bearer"});
    setup.provider.state().userinfo = json!({
        "id": 583_231,
        "login": "octocat",
        "name": "The Octocat",
        "email": null,
        "avatar_url": "https://avatars.example/u/583231",
    });
    setup.provider.state().emails = json!([
        {"email": "old@example.com", "primary": false, "verified": true, "visibility": null},
        {"email": "octocat@example.com", "primary": true, "verified": true, "visibility": "private"},
    ]);
    let provider = Provider::github_enterprise("https://idp.example/").client(CLIENT, SECRET);
    let server = setup.server_with([provider], &[1], |login| login);
    (setup, server)
}

#[tokio::test]
async fn github_is_asked_who_somebody_is() {
    let (setup, server) = github();
    let mut browser = Browser::default();
    let location = browser.begin(&server, "").await;
    assert!(location.starts_with("https://idp.example/login/oauth/authorize?"));
    assert_eq!(
        parameter(&location, "scope").unwrap(),
        "read:user user:email"
    );
    assert_eq!(parameter(&location, "nonce"), None, "it has no ID token");
    assert!(setup.provider.asked().is_empty(), "nothing is discovered");
    let callback = with(&setup.provider.authorize(&location), "iss", None);
    assert_eq!(browser.get(&server, callback.as_str()).await.status, 303);

    let identity = server.identity(&browser).await.unwrap();
    assert_eq!(
        &**identity.user_id(),
        "github|583231",
        "not the name, which changes"
    );
    assert_eq!(identity.name(), Some("The Octocat"));
    assert_eq!(
        identity.email(),
        Some("octocat@example.com"),
        "private and primary"
    );
    assert!(identity.email_verified());
    assert_eq!(identity.picture(), Some("https://avatars.example/u/583231"));
    let asked = std::mem::take(&mut setup.provider.state().asked);
    let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
    let user = [
        "/login/oauth/access_token",
        "/api/v3/user",
        "/api/v3/user/emails",
    ];
    assert_eq!(paths, user);
    assert_eq!(asked[1].headers["user-agent"], "tower-sso");
    assert!(asked[0].form.contains_key("code_verifier"), "PKCE here too");

    // Signing out ends the session here; there is nowhere else to go.
    let here = [("origin", ORIGIN)];
    let page = browser
        .send(&server, http::Method::POST, "/auth/logout", &here, "")
        .await;
    assert_eq!(page.location(), "https://app.example.com/auth/signed-out");
}

#[tokio::test]
async fn github_may_name_itself_but_nobody_else() {
    for (iss, status) in [
        ("https://idp.example/login/oauth", 303),
        ("https://github.com/login/oauth", 400),
        ("https://idp.example", 400),
    ] {
        let (setup, server) = github();
        let mut browser = Browser::default();
        let location = browser.begin(&server, "").await;
        let callback = with(&setup.provider.authorize(&location), "iss", Some(iss));
        assert_eq!(
            browser.get(&server, callback.as_str()).await.status,
            status,
            "{iss}"
        );
    }
}

#[tokio::test]
async fn github_profiles_that_name_nobody_open_no_session() {
    for (path, fault, status) in [
        ("/api/v3/user", Fault::Answer(401, "{}"), 400),
        ("/api/v3/user", Fault::Answer(403, "{}"), 503),
        ("/api/v3/user", Fault::Answer(200, "{}"), 503),
        (
            "/api/v3/user",
            Fault::Answer(200, r#"{"id":"1","login":"x"}"#),
            503,
        ),
        (
            "/api/v3/user",
            Fault::Answer(200, r#"{"id":-1,"login":"x"}"#),
            503,
        ),
        (
            "/api/v3/user",
            Fault::Answer(200, r#"{"id":1,"id":2,"login":"x"}"#),
            503,
        ),
        ("/api/v3/user", Fault::Error, 503),
        ("/api/v3/user/emails", Fault::Answer(500, ""), 503),
        ("/api/v3/user/emails", Fault::Answer(200, "{}"), 503),
        ("/api/v3/user/emails", Fault::Answer(404, "{}"), 303),
        ("/api/v3/user/emails", Fault::Answer(403, "{}"), 303),
        (
            "/login/oauth/access_token",
            Fault::Answer(200, r#"{"error":"bad_verification_code"}"#),
            400,
        ),
    ] {
        let (setup, server) = github();
        let mut browser = Browser::default();
        let location = browser.begin(&server, "").await;
        let callback = with(&setup.provider.authorize(&location), "iss", None);
        setup.provider.fail(path, fault.clone());
        let page = browser.get(&server, callback.as_str()).await;
        assert_eq!(page.status, status, "{path} {fault:?}");
        assert_eq!(browser.session().is_some(), status == 303);
        if status == 303 {
            let identity = server.identity(&browser).await.unwrap();
            assert_eq!(identity.email(), None);
        }
    }
}
