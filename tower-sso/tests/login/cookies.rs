//! What browsers keep, and what they bring that was never given to them.

use http::Method;

use crate::support::*;

#[tokio::test]
async fn d7_64_tabs_do_not_disturb_one_another() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server();
    let first = browser.begin(&server, "?return_to=/one").await;
    let second = browser.begin(&server, "?return_to=/two").await;
    let third = browser.begin(&server, "?return_to=/three").await;
    for (location, wanted) in [(second, "/two"), (first, "/one"), (third, "/three")] {
        let callback = setup.provider.authorize(&location);
        let page = browser.get(&server, callback.as_str()).await;
        assert_eq!(page.status, 303, "{wanted}");
        assert_eq!(page.location(), format!("{ORIGIN}{wanted}"));
    }
    assert_eq!(browser.pending(), 0);
}

#[tokio::test]
async fn d7_64_of_more_than_five_sign_ins_the_oldest_give_way() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server();
    let mut callbacks = Vec::new();
    for _ in 0..8 {
        let location = browser.begin(&server, "?return_to=/a").await;
        callbacks.push(setup.provider.authorize(&location));
        setup.clock.advance(1);
        assert!(browser.cookie_header().len() < 6 * 1024);
    }
    assert_eq!(browser.pending(), 5);
    let mut statuses = Vec::new();
    for callback in &callbacks {
        statuses.push(
            browser
                .clone()
                .get(&server, callback.as_str())
                .await
                .status
                .as_u16(),
        );
    }
    assert_eq!(statuses, [400, 400, 400, 303, 303, 303, 303, 303]);
}

#[tokio::test]
async fn d7_64_another_server_with_the_same_keys_can_go_on() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let location = browser.begin(&setup.server(), "?return_to=/a").await;
    let callback = setup.provider.authorize(&location);
    // As after a restart, or on another replica: nothing is known but keys and store.
    let restarted = setup.server();
    let page = browser.get(&restarted, callback.as_str()).await;
    assert_eq!(page.location(), format!("{ORIGIN}/a"));
    assert!(setup.server().identity(&browser).await.is_some());
}

#[tokio::test]
async fn d7_64_keys_can_be_changed_while_people_sign_in() {
    let setup = Setup::new();
    let old = setup.server_with([registration()], &[1], |login| login);
    let both = setup.server_with([registration()], &[2, 1], |login| login);
    let new = setup.server_with([registration()], &[2], |login| login);

    let mut browser = Browser::default();
    let location = browser.begin(&old, "").await;
    let callback = setup.provider.authorize(&location);
    assert_eq!(
        browser.clone().get(&new, callback.as_str()).await.status,
        400
    );
    assert_eq!(browser.get(&both, callback.as_str()).await.status, 303);
    assert!(
        new.identity(&browser).await.is_some(),
        "sealed with the new one"
    );
}

#[tokio::test]
async fn d7_64_a_tampered_or_doubled_cookie_is_no_sign_in() {
    let setup = Setup::new();
    let server = setup.server();
    let mut browser = Browser::default();
    let location = browser.begin(&server, "").await;
    let callback = setup.provider.authorize(&location);
    setup.provider.asked();
    let (name, value) = browser.cookies.first_key_value().unwrap();
    let (name, value) = (name.clone(), value.clone());
    for changed in [
        value[..value.len() - 1].to_owned(),
        format!("{value}A"),
        value.replacen("v1.", "v2.", 1),
        value.chars().rev().collect(),
        "A".repeat(5000),
        String::new(),
        format!("{value}; {name}={value}"),
        format!("x; {name}={value}"),
    ] {
        let mut browser = Browser::default();
        browser.cookies.insert(name.clone(), changed.clone());
        let page = browser.get(&server, callback.as_str()).await;
        assert_eq!(page.status, 400, "{changed}");
        assert_eq!(browser.session(), None);
    }
    assert!(setup.provider.asked().is_empty());
}

#[tokio::test]
async fn d7_64_signing_in_opens_a_new_session_and_ends_the_old_one() {
    let setup = Setup::new();
    let server = setup.server();
    let mut browser = Browser::default();
    browser.sign_in(&setup, &server, "").await;
    let old = browser.clone();
    assert!(server.identity(&old).await.is_some());

    // Somebody who is signed in signs in anew.
    browser.sign_in(&setup, &server, "").await;
    assert_ne!(browser.session(), old.session());
    assert!(server.identity(&browser).await.is_some());
    assert!(
        server.identity(&old).await.is_none(),
        "the old id is worth nothing"
    );
}

#[tokio::test]
async fn d7_64_a_planted_session_is_not_the_one_that_is_signed_in() {
    let setup = Setup::new();
    let server = setup.server();
    let mut attacker = Browser::default();
    attacker.sign_in(&setup, &server, "").await;
    let planted = attacker.session().unwrap();

    let mut victim = Browser::default();
    victim
        .cookies
        .insert("__Host-session".to_owned(), planted.clone());
    victim.sign_in(&setup, &server, "").await;
    assert_ne!(victim.session().unwrap(), planted);
    assert!(server.identity(&attacker).await.is_none());

    // Not even one that never was.
    let mut victim = Browser::default();
    victim
        .cookies
        .insert("__Host-session".to_owned(), "made-up".to_owned());
    let page = victim.sign_in(&setup, &server, "").await;
    assert_eq!(page.status, 303);
    assert!(server.identity(&victim).await.is_some());
}

#[tokio::test]
async fn d7_64_the_session_cookie_is_short_and_says_how_long_it_lives() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server();
    let location = browser.begin(&server, "").await;
    let callback = setup.provider.authorize(&location);
    let page = browser.get(&server, callback.as_str()).await;
    let cookies = page.headers.get_all("set-cookie").iter();
    let cookies: Vec<&str> = cookies.map(|cookie| cookie.to_str().unwrap()).collect();
    let session = cookies
        .iter()
        .find(|cookie| cookie.starts_with("__Host-session="))
        .unwrap();
    assert!(session.contains("Max-Age=604800;"), "{session}");
    assert!(session.len() < 300, "{session}");
    assert!(
        page.headers
            .get_all("set-cookie")
            .iter()
            .any(http::HeaderValue::is_sensitive)
    );
}

#[tokio::test]
async fn head_begins_a_sign_in_without_a_body() {
    let (setup, mut browser) = (Setup::new(), Browser::default());
    let server = setup.server_of_two();
    let page = browser
        .send(
            &server,
            Method::HEAD,
            "/auth/login",
            &[("accept", "text/html")],
            "",
        )
        .await;
    assert_eq!(page.status, 200);
    assert_eq!(page.body, "");
    let page = browser
        .send(&server, Method::HEAD, "/auth/signed-out", &[], "")
        .await;
    assert_eq!((page.status.as_u16(), page.body.as_str()), (200, ""));
}
