//! Signing in as it should go.

use serde_json::json;
use tower_sso::{
    AnswerFuture, Identity,
    login::{
        AdmitError, ClientAuth, Login, LoginError, LoginService, Occasion, Provider, Providers,
    },
};

use crate::support::*;

#[tokio::test]
async fn somebody_signs_in_and_returns_to_where_they_were() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server();
    let location = browser.begin(&server, "?return_to=%2Fchat%3Fa%3Db").await;

    assert_eq!(parameter(&location, "redirect_uri").unwrap(), CALLBACK);
    assert_eq!(
        parameter(&location, "scope").unwrap(),
        "openid profile email offline_access"
    );
    for random in ["state", "nonce", "code_challenge"] {
        assert_eq!(parameter(&location, random).unwrap().len(), 43, "{random}");
    }
    assert_eq!(browser.pending(), 1);
    assert_eq!(
        setup.provider.asked(),
        ["/.well-known/openid-configuration"]
    );

    let callback = setup.provider.authorize(&location);
    let page = browser.get(&server, callback.as_str()).await;
    assert_eq!(page.status, 303, "{}", page.body);
    assert_eq!(page.location(), "https://app.example.com/chat?a=b");
    assert_eq!(browser.pending(), 0, "the sign-in is over");
    assert_eq!(
        setup.provider.asked(),
        ["/token", "/.well-known/openid-configuration", "/keys"],
        "userinfo has nothing more to say"
    );

    let identity = server.identity(&browser).await.unwrap();
    assert_eq!(&**identity.user_id(), "alice");
    assert_eq!(identity.issuer(), ISSUER);
    assert_eq!(identity.provider(), "corp");
    assert_eq!(identity.email(), Some("alice@example.com"));
    assert!(identity.email_verified());
    assert_eq!(identity.name(), Some("Alice"));
    assert_eq!(identity.session_id(), Some("sid-1"));
}

#[tokio::test]
async fn without_a_target_the_browser_goes_to_the_default() {
    let setup = Setup::new();
    let server = setup.server_with([registration()], &[1], |login| {
        login.after_sign_in("/home").unwrap()
    });
    let long = format!("?return_to=/{}", "a".repeat(2000));
    for query in [
        "",
        "?return_to=",
        "?return_to=/auth/login",
        "?return_to=/auth/logout",
        &long,
    ] {
        let page = Browser::default().sign_in(&setup, &server, query).await;
        assert_eq!(page.location(), "https://app.example.com/home", "{query}");
    }
}

#[tokio::test]
async fn several_providers_are_offered_on_a_page() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server_of_two();
    let page = browser.get(&server, "/auth/login?return_to=/a%26b").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains(
        "<a href=\"/auth/login?provider=corp&amp;return_to=https%3A%2F%2Fapp.example.com%2Fa%26b\">\
         Sign in with Example &lt;Corp&gt;</a>"
    ));
    assert!(page.body.contains("/auth/login?provider=other&amp;"));
    assert_eq!(browser.pending(), 0);

    let location = browser
        .begin(&server, "?provider=other&return_to=/a%26b")
        .await;
    let callback = setup.other.authorize(&location);
    let page = browser.get(&server, callback.as_str()).await;
    assert_eq!(page.location(), "https://app.example.com/a&b");
    let identity = server.identity(&browser).await.unwrap();
    assert_eq!(
        &**identity.user_id(),
        "other|alice",
        "not the primary provider's alice"
    );
}

#[tokio::test]
async fn d1_16_one_subject_at_two_providers_is_two_users() {
    let setup = Setup::new();
    let server = setup.server_of_two();
    let mut users = Vec::new();
    for (alias, provider) in [("corp", &setup.provider), ("other", &setup.other)] {
        let mut browser = Browser::default();
        let location = browser.begin(&server, &format!("?provider={alias}")).await;
        browser
            .get(&server, provider.authorize(&location).as_str())
            .await;
        users.push(
            server
                .identity(&browser)
                .await
                .unwrap()
                .user_id()
                .to_string(),
        );
    }
    assert_eq!(users, ["alice", "other|alice"]);

    // Nor can the primary provider's subject look like the other's user.
    setup.provider.state().claims = json!({"sub": "other|alice"});
    let page = Browser::default()
        .sign_in(&setup, &server, "?provider=corp")
        .await;
    assert_eq!(page.status, 400);
}

#[tokio::test]
async fn roles_are_mapped_as_those_of_access_tokens() {
    let setup = Setup::new();
    let provider = registration()
        .roles_claim("realm_access.roles")
        .role("admin", ["openclaw-admins"])
        .role("auditor", ["auditors"]);
    let server = setup.server_with([provider], &[1], |login| login);
    setup.provider.state().claims = json!({
        "groups": ["a", "b"],
        "realm_access": {"roles": ["openclaw-admins", "x"]},
    });
    let mut browser = Browser::default();
    browser.sign_in(&setup, &server, "").await;
    let identity = server.identity(&browser).await.unwrap();
    let texts = |values: &[Box<str>]| values.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(identity.groups()), ["a", "b"]);
    assert_eq!(texts(identity.roles()), ["admin"]);
}

#[tokio::test]
async fn what_an_id_token_lacks_is_asked_for_once() {
    let setup = Setup::new();
    let provider = registration().role("admin", ["admins"]);
    let server = setup.server_with([provider], &[1], |login| login);
    setup.provider.state().claims = json!({"email": null, "email_verified": null});
    setup.provider.state().userinfo = json!({
        "sub": "alice",
        "email": "alice@users.example",
        "email_verified": false,
        "name": "another name",
        "groups": ["admins"],
        "iss": "https://evil.example",
        "sid": "another",
    });
    let mut browser = Browser::default();
    browser.sign_in(&setup, &server, "").await;
    let identity = server.identity(&browser).await.unwrap();
    assert_eq!(identity.email(), Some("alice@users.example"));
    assert!(!identity.email_verified());
    assert_eq!(
        identity.name(),
        Some("Alice"),
        "what the ID token says stays"
    );
    assert_eq!(identity.issuer(), ISSUER);
    assert_eq!(identity.session_id(), Some("sid-1"));
    assert!(identity.roles().iter().any(|role| &**role == "admin"));
    let asked = std::mem::take(&mut setup.provider.state().asked);
    let asked: Vec<_> = asked
        .iter()
        .filter(|asked| asked.path == "/userinfo")
        .collect();
    assert_eq!(asked.len(), 1);
    let bearer = asked[0].headers["authorization"].to_str().unwrap();
    assert!(bearer.starts_with("Bearer canary-access-"));
}

#[tokio::test]
async fn the_secret_is_sent_the_way_the_provider_takes_it() {
    let both = json!({});
    let header_only = json!({"token_endpoint_auth_methods_supported": ["client_secret_basic"]});
    let silent = json!({"token_endpoint_auth_methods_supported": null});
    for (metadata, wanted, in_header) in [
        (&both, None, false),
        (&header_only, None, true),
        (&silent, None, true),
        (&both, Some(ClientAuth::Basic), true),
        (&header_only, Some(ClientAuth::Post), false),
    ] {
        let setup = Setup::new();
        setup.provider.state().metadata = metadata.clone();
        let provider = match wanted {
            Some(wanted) => registration().client_auth(wanted),
            None => registration(),
        };
        let server = setup.server_with([provider], &[1], |login| login);
        let page = Browser::default().sign_in(&setup, &server, "").await;
        assert_eq!(page.status, 303);
        let asked = std::mem::take(&mut setup.provider.state().asked);
        let asked = asked.iter().find(|asked| asked.path == "/token").unwrap();
        assert_eq!(asked.headers.contains_key("authorization"), in_header);
        assert_eq!(asked.form.contains_key("client_secret"), !in_header);
    }
}

#[tokio::test]
async fn offline_access_is_asked_for_only_where_it_is_known_and_wanted() {
    for (provider, metadata, wanted) in [
        (registration(), json!({}), true),
        (registration().offline(false), json!({}), false),
        (registration(), json!({"scopes_supported": null}), false),
        (
            registration(),
            json!({"scopes_supported": ["openid"]}),
            false,
        ),
        (registration().scopes(["email"]), json!({}), true),
    ] {
        let setup = Setup::new();
        setup.provider.state().metadata = metadata;
        let server = setup.server_with([provider], &[1], |login| login);
        let location = Browser::default().begin(&server, "").await;
        let scope = parameter(&location, "scope").unwrap();
        assert_eq!(scope.contains("offline_access"), wanted, "{scope}");
        assert!(scope.split(' ').any(|one| one == "openid"), "{scope}");
    }
}

#[tokio::test]
async fn further_parameters_are_sent() {
    let setup = Setup::new();
    setup.provider.state().metadata =
        json!({"authorization_endpoint": "https://idp.example/authorize?p=x"});
    let provider = registration()
        .audience("https://api.example")
        .parameter("hd", "a&b");
    let server = setup.server_with([provider], &[1], |login| login);
    let location = Browser::default().begin(&server, "").await;
    assert!(location.starts_with("https://idp.example/authorize?p=x&response_type=code&"));
    assert_eq!(
        parameter(&location, "audience").unwrap(),
        "https://api.example"
    );
    assert_eq!(parameter(&location, "hd").unwrap(), "a&b");
}

#[tokio::test]
async fn who_is_turned_away_has_no_session() {
    for (answer, status) in [(AdmitError::Refused, 403), (AdmitError::Unavailable, 503)] {
        let setup = Setup::new();
        let server = setup.server();
        let admit = move |_: Identity, _: Occasion| AnswerFuture::ready(Err(answer));
        let providers = server.providers.clone().admit(std::sync::Arc::new(admit));
        let login = Login::new(
            server.sessions.clone(),
            sealing_keys(&[1]),
            providers,
            ORIGIN,
        );
        let server = Server {
            service: login.unwrap().service(),
            ..server
        };
        let mut browser = Browser::default();
        let page = browser.sign_in(&setup, &server, "").await;
        assert_eq!(page.status, status);
        assert_eq!(browser.session(), None);
    }
}

#[tokio::test]
async fn whoever_decides_can_add_to_an_identity() {
    let setup = Setup::new();
    let server = setup.server();
    let admit = |identity: Identity, occasion: Occasion| {
        assert_eq!(occasion, Occasion::SignIn);
        let known = Identity::builder(identity.issuer(), &**identity.subject()).roles(["owner"]);
        AnswerFuture::ready(Ok(known.provider(identity.provider()).build()))
    };
    let providers = server.providers.clone().admit(std::sync::Arc::new(admit));
    let login = Login::new(
        server.sessions.clone(),
        sealing_keys(&[1]),
        providers,
        ORIGIN,
    );
    let server = Server {
        service: login.unwrap().service(),
        ..server
    };
    let mut browser = Browser::default();
    browser.sign_in(&setup, &server, "").await;
    let identity = server.identity(&browser).await.unwrap();
    assert_eq!(&*identity.roles()[0], "owner");
}

#[tokio::test]
async fn the_service_can_be_below_another_path_and_nested() {
    let setup = Setup::new();
    let server = setup.server_with([registration()], &[1], |login| {
        login.base("/sso/v1").unwrap()
    });
    let mut browser = Browser::default();
    assert_eq!(browser.get(&server, "/auth/login").await.status, 404);
    let page = browser.get(&server, "/sso/v1/login").await;
    assert_eq!(page.status, 303);
    let wanted = "https://app.example.com/sso/v1/callback";
    assert_eq!(page.parameter("redirect_uri").unwrap(), wanted);

    let nested = Server {
        service: server.service.clone().nested(),
        ..server
    };
    assert_eq!(browser.get(&nested, "/sso/v1/login").await.status, 404);
    let page = browser.get(&nested, "/login").await;
    assert_eq!(page.parameter("redirect_uri").unwrap(), wanted);
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    let setup = Setup::new();
    let client = std::sync::Arc::new(setup.provider.clone());
    let refused = |providers: Vec<Provider>| Providers::new(client.clone(), providers).err();
    let other = || Provider::google().client("a", "b");
    for (providers, wanted) in [
        (vec![], Some(LoginError::NoProvider)),
        (
            vec![registration(), registration()],
            Some(LoginError::Ambiguous),
        ),
        (
            vec![registration(), other().alias("corp")],
            Some(LoginError::Ambiguous),
        ),
        (
            vec![registration(), registration().alias("x").primary(false)],
            Some(LoginError::Ambiguous),
        ),
        (
            vec![registration(), other().primary(true)],
            Some(LoginError::Ambiguous),
        ),
        (vec![Provider::google()], Some(LoginError::Client)),
        (vec![other().client("a", "")], Some(LoginError::Client)),
        (vec![other().client("a\n", "b")], Some(LoginError::Client)),
        (vec![other().alias("")], Some(LoginError::Alias)),
        (vec![other().alias("a|b")], Some(LoginError::Alias)),
        (
            vec![other().parameter("state", "x")],
            Some(LoginError::Parameter),
        ),
        (
            vec![other().parameter("code_challenge_method", "plain")],
            Some(LoginError::Parameter),
        ),
        (
            vec![other().parameter("response_mode", "form_post")],
            Some(LoginError::Parameter),
        ),
        (vec![other().algorithms([])], Some(LoginError::Settings)),
        (
            vec![Provider::oidc("http://idp.example").client("a", "b")],
            Some(LoginError::Issuer),
        ),
        (
            vec![Provider::oidc("https://a@idp.example").client("a", "b")],
            Some(LoginError::Issuer),
        ),
        (
            vec![Provider::oidc("https://idp.example?x").client("a", "b")],
            Some(LoginError::Issuer),
        ),
        (
            vec![Provider::auth0("a@b").client("a", "b")],
            Some(LoginError::Issuer),
        ),
        (
            vec![Provider::entra("contoso.com").client("a", "b")],
            Some(LoginError::Issuer),
        ),
        (
            vec![Provider::entra("common").tenants(["x"]).client("a", "b")],
            Some(LoginError::Issuer),
        ),
        (vec![registration(), other()], None),
        (
            vec![Provider::oidc("http://127.0.0.1:9000").client("a", "b")],
            None,
        ),
        (
            vec![Provider::auth0("example.eu.auth0.com").client("a", "b")],
            None,
        ),
        (
            vec![Provider::okta("example.okta.com", None).client("a", "b")],
            None,
        ),
        (
            vec![Provider::okta("example.okta.com", Some("default")).client("a", "b")],
            None,
        ),
        (
            vec![Provider::keycloak("https://login.example.com/", "corp").client("a", "b")],
            None,
        ),
        (vec![Provider::github().client("a", "b")], None),
        (vec![Provider::entra("consumers").client("a", "b")], None),
        (
            vec![Provider::entra("72f988bf-86f1-41af-91ab-2d7cd011db47").client("a", "b")],
            None,
        ),
    ] {
        let shown = format!("{providers:?}");
        assert!(!shown.contains(SECRET), "{shown}");
        assert_eq!(refused(providers), wanted, "{shown}");
    }
}

#[test]
fn addresses_that_are_not_ours_are_refused() {
    let setup = Setup::new();
    let server = setup.server();
    let login = |origin: &str| {
        let keys = sealing_keys(&[1]);
        Login::new(
            server.sessions.clone(),
            keys,
            server.providers.clone(),
            origin,
        )
    };
    for origin in [
        "",
        "http://app.example.com",
        "https://app.example.com/",
        "app.example.com",
    ] {
        assert_eq!(login(origin).err(), Some(LoginError::Origin), "{origin}");
    }
    assert!(login("http://localhost:3000").is_ok());
    let fresh = || login(ORIGIN).unwrap();
    for base in [
        "", "auth", "/auth/", "/", "//a", "/a//b", "/ä", "/a?b", "/a;b", "/a%20",
    ] {
        assert_eq!(fresh().base(base).err(), Some(LoginError::Base), "{base}");
    }
    assert_eq!(
        fresh().after_sign_in("https://evil.example/").err(),
        Some(LoginError::Target)
    );
    assert_eq!(
        fresh().after_sign_out("//evil.example/").err(),
        Some(LoginError::Target)
    );
    assert_eq!(fresh().allow_origin("*").err(), Some(LoginError::Origin));
    let spa = fresh().allow_origin("https://spa.example.com").unwrap();
    assert!(spa.after_sign_out("https://spa.example.com/bye").is_ok());
}

#[tokio::test]
async fn the_service_fits_into_axum_at_its_paths_nested_and_as_a_fallback() {
    use axum::{Router, body::Body};
    use http::Request;
    use tower::ServiceExt as _;

    let service = Setup::new().server().service;
    for router in [
        Router::new().route_service("/auth/{*rest}", service.clone()),
        Router::new().nest_service("/auth", service.clone().nested()),
        Router::new().fallback_service(service.clone()),
    ] {
        let request = Request::get("/auth/login").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 303);
    }
}

#[test]
fn everything_can_be_shared_between_threads() {
    fn is_shared<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
    fn is_sent<T: Send + 'static>() {}
    is_shared::<Login>();
    is_shared::<LoginService>();
    is_shared::<Provider>();
    is_shared::<Providers>();
    is_shared::<tower_sso::login::RedirectToSignIn>();
    is_sent::<tower_sso::login::ResponseFuture>();
}
