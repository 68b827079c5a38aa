use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use tower_sso::{
    CredentialKind, Identity, Reason, Verify, VerifyError,
    session::{
        IssuerTokens, MemoryStore, Opened, Refresh, RefreshError, RefreshFuture, Sessions, Store,
    },
};

use crate::support::{Flaky, Issuer, alice, due, keys, sessions, stores};

async fn all_good(servers: &[Sessions], cookie: &str) -> Vec<String> {
    let requests = (0..100).map(|n| servers[n % servers.len()].verify(cookie));
    join_all(requests)
        .await
        .into_iter()
        .map(|verdict| verdict.unwrap().name().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_hundred_requests_at_two_servers_cause_one_refresh() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let issuer = Issuer::new();
        issuer.takes(Duration::from_millis(250));
        let servers = [sessions(&store, &issuer), sessions(&store, &issuer)];
        let opened = servers[0].open(&alice(), Some(due()), None).await.unwrap();
        let names = all_good(&servers, &opened.cookie_value).await;
        assert_eq!(issuer.asked(), 1, "{name}");
        assert!(
            names.iter().all(|name| name == "renewed 1"),
            "{name}: all have the new one"
        );
        let identity = servers[1].verify(&opened.cookie_value).await.unwrap();
        let tokens = servers[1].tokens(&identity).await.unwrap().unwrap();
        assert_eq!(tokens.access_token(), "access-1", "{name}");
        assert_eq!(tokens.refresh_token(), Some("refresh-1"), "{name}");
    }
}

#[tokio::test]
async fn a_refresh_that_takes_longer_than_a_lease_is_one_refresh_still() {
    let dir = tempfile::tempdir().unwrap();
    let (_, store) = stores(dir.path()).await.swap_remove(1);
    let issuer = Issuer::new();
    issuer.takes(Duration::from_secs(12));
    let servers = [sessions(&store, &issuer), sessions(&store, &issuer)];
    let opened = servers[0].open(&alice(), Some(due()), None).await.unwrap();
    all_good(&servers, &opened.cookie_value).await;
    assert_eq!(issuer.asked(), 1);
    let kept = kept(&servers[1], &opened).await;
    assert_eq!(kept.access_token(), "access-1");
    assert_eq!(issuer.asked(), 1);
}

/// The tokens of a session once it has been refreshed.
async fn kept(server: &Sessions, opened: &Opened) -> IssuerTokens {
    let refreshed = async {
        loop {
            let (_, tokens) = server.tokens_of(opened.key).await.unwrap().unwrap();
            let tokens = tokens.unwrap();
            if tokens.access_token() != "access-0" {
                return tokens;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let soon = Duration::from_secs(60);
    timeout(soon, refreshed).await.expect("new tokens are kept")
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_three_seconds_for_a_refresh_and_then_goes_on() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let issuer = Issuer::new();
    issuer.takes(Duration::from_secs(8));
    let server = sessions(&store, &issuer);
    let opened = server.open(&alice(), Some(due()), None).await.unwrap();
    let begun = Instant::now();
    let identity = server.verify(&opened.cookie_value).await.unwrap();
    assert_eq!(identity.name(), Some("alice of Example"), "as it was");
    assert_eq!(begun.elapsed().as_secs(), 3);
    assert!(server.still_is(&identity, true).await.unwrap());
    assert_eq!(kept(&server, &opened).await.access_token(), "access-1");
    assert_eq!(issuer.asked(), 1, "the socket joined the refresh");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_a_session_is_refreshed_loses_no_token() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let issuer = Issuer::new();
    let server = sessions(&store, &issuer);
    let opened = server.open(&alice(), Some(due()), None).await.unwrap();
    let bearer = alice().to_builder();
    let bearer = bearer.credential(CredentialKind::Session, opened.key.to_string());
    let identity = bearer.build();
    issuer.takes(Duration::from_secs(2));
    let asked = server.still_is(&identity, true);
    let left = timeout(Duration::from_millis(500), asked).await;
    assert!(left.is_err(), "the socket is closed meanwhile");
    let kept = kept(&server, &opened).await;
    assert_eq!(kept.refresh_token(), Some("refresh-1"));
    assert_eq!(kept.id_token(), Some("id-0"), "the issuer sent no new one");
}

#[tokio::test(start_paused = true)]
async fn new_tokens_outlast_a_store_that_is_away_for_a_while() {
    let store = Arc::new(Flaky::new(MemoryStore::new()));
    let issuer = Issuer::new();
    let shared: Arc<dyn Store> = store.clone();
    let server = sessions(&shared, &issuer);
    let opened = server.open(&alice(), Some(due()), None).await.unwrap();
    store.fail_replacing(5);
    let identity = server.verify(&opened.cookie_value).await.unwrap();
    assert_eq!(identity.name(), Some("alice of Example"));
    let kept = kept(&server, &opened).await;
    assert_eq!(kept.refresh_token(), Some("refresh-1"));
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_refresher_that_panics_ends_nothing() {
    struct Panics;
    impl Refresh for Panics {
        fn refresh(&self, _: &Identity, _: &IssuerTokens) -> RefreshFuture {
            panic!("the refresher panics");
        }
    }
    let server = Sessions::new(Arc::new(MemoryStore::new()), keys()).refresh_with(Arc::new(Panics));
    let opened = server.open(&alice(), Some(due()), None).await.unwrap();
    assert!(server.verify(&opened.cookie_value).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_is_down_ends_no_session() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let issuer = Issuer::new();
        issuer.answers(Some(RefreshError::Unavailable));
        let servers = [sessions(&store, &issuer), sessions(&store, &issuer)];
        let opened = servers[0].open(&alice(), Some(due()), None).await.unwrap();
        let names = all_good(&servers, &opened.cookie_value).await;
        assert_eq!(
            issuer.asked(),
            1,
            "{name}: and it is not asked again and again"
        );
        assert!(
            names.iter().all(|name| name == "alice of Example"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_issuer_that_refuses_ends_the_session() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let issuer = Issuer::new();
        issuer.answers(Some(RefreshError::Refused));
        let servers = [sessions(&store, &issuer), sessions(&store, &issuer)];
        let opened = servers[0].open(&alice(), Some(due()), None).await.unwrap();
        for server in &servers {
            let verdict = server.verify(&opened.cookie_value).await;
            assert_eq!(
                verdict.unwrap_err(),
                VerifyError::Invalid(Reason::Unknown),
                "{name}"
            );
        }
        assert_eq!(issuer.asked(), 1, "{name}");
        assert!(store.find(opened.key).await.unwrap().is_none(), "{name}");
    }
}

#[tokio::test]
async fn a_server_that_dies_with_the_lease_holds_nobody_up_for_long() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let issuer = Issuer::new();
        let server = sessions(&store, &issuer);
        let opened = server.open(&alice(), Some(due()), None).await.unwrap();
        let dead = Duration::from_millis(400);
        assert!(store.lease(opened.key, 1, dead).await.unwrap().is_held());
        let identity = server.verify(&opened.cookie_value).await.unwrap();
        assert_eq!(identity.name(), Some("renewed 1"), "{name}");
    }
}

#[tokio::test]
async fn who_comes_second_takes_what_the_first_one_got() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let (issuer, dead) = (Issuer::new(), Issuer::new());
        dead.answers(Some(RefreshError::Refused));
        dead.takes(Duration::from_millis(300));
        let (good, loser) = (sessions(&store, &issuer), sessions(&store, &dead));
        let opened = good.open(&alice(), Some(due()), None).await.unwrap();
        // The loser is asking with the old token when somebody else's answer is stored.
        let losing = tokio::spawn({
            let cookie = opened.cookie_value.clone();
            async move { loser.verify(&cookie).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let record = store.find(opened.key).await.unwrap().unwrap();
        assert!(store.replace(opened.key, 0, record.data).await.unwrap());
        assert!(
            losing.await.unwrap().is_ok(),
            "{name}: the loser reads again"
        );
        assert!(
            store.find(opened.key).await.unwrap().is_some(),
            "{name}: and ends nothing"
        );
    }
}

#[tokio::test]
async fn who_took_the_lease_over_waits_for_what_its_holder_has_before_it_ends_the_session() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let refused = Issuer::new();
        refused.answers(Some(RefreshError::Refused));
        let server = sessions(&store, &refused);
        let opened = server.open(&alice(), Some(due()), None).await.unwrap();
        // Another server has spent the refresh token, and the store was away for longer than its lease.
        let late = store.lease(opened.key, 1, Duration::from_millis(1)).await;
        assert!(late.unwrap().is_held());
        tokio::time::sleep(Duration::from_millis(20)).await;
        let asking = tokio::spawn({
            let (server, cookie) = (server.clone(), opened.cookie_value.clone());
            async move { server.verify(&cookie).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(refused.asked(), 1, "{name}");
        let record = store.find(opened.key).await.unwrap().unwrap();
        assert!(store.replace(opened.key, 0, record.data).await.unwrap());
        assert!(asking.await.unwrap().is_ok(), "{name}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let kept = store.find(opened.key).await.unwrap();
        assert!(kept.is_some(), "{name}: it ended nothing");
    }
}
