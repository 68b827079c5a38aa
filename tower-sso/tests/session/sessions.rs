use std::{sync::Arc, time::Duration};

use tower_sso::{
    CredentialKind, Reason, Verify, VerifyError,
    session::{End, MemoryStore, SealingKeys, Sessions, Store},
};

use crate::support::{Hand, KEY, alice, due, keys, person, stores};

fn invalid(reason: Reason) -> VerifyError {
    VerifyError::Invalid(reason)
}

#[tokio::test]
async fn a_session_gives_the_identity_it_was_opened_for() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let sessions = Sessions::new(store, keys());
        let opened = sessions
            .open(&alice(), None, Some("Firefox"))
            .await
            .unwrap();
        let identity = sessions.verify(&opened.cookie_value).await.unwrap();
        assert_eq!(identity.issuer(), "https://login.example.com", "{name}");
        assert_eq!(identity.provider(), "corp");
        assert_eq!(
            (&**identity.subject(), &**identity.user_id()),
            ("alice", "alice")
        );
        assert_eq!(identity.email(), Some("alice@example.com"));
        assert!(identity.email_verified());
        assert_eq!(identity.name(), Some("alice of Example"));
        assert_eq!(identity.session_id(), Some("sid-of-alice"));
        assert_eq!(identity.claims(), r#"{"x":1}"#);
        assert_eq!(identity.roles(), [Box::<str>::from("editor")]);
        assert_eq!(identity.kind(), CredentialKind::Session);
        assert_eq!(identity.credential_id(), Some(&*opened.key.to_string()));
        assert_eq!(identity.expires_at(), Some(opened.expires_at));
        let listed = sessions.list("alice").await.unwrap();
        let own = listed
            .iter()
            .find(|session| session.key() == opened.key)
            .unwrap();
        assert_eq!(own.label(), Some("Firefox"));
        assert!(!format!("{own:?}").contains("Firefox"), "{own:?}");
    }
}

#[tokio::test]
async fn d7_64_a_cookie_that_was_changed_is_refused_without_asking_the_store() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let sessions = Sessions::new(Arc::clone(&store), keys());
    let cookie = sessions
        .open(&alice(), None, None)
        .await
        .unwrap()
        .cookie_value;
    let mut forged: Vec<String> = vec![
        String::new(),
        "v1".into(),
        "v1..".into(),
        cookie.replace("v1.", "v2."),
        format!("{cookie}A"),
        cookie[..cookie.len() - 1].into(),
        cookie.to_uppercase(),
        keys().seal("another purpose", &[1; 32]),
        SealingKeys::new([[8; 32]])
            .unwrap()
            .seal("session cookie", &[1; 32]),
    ];
    for at in 0..cookie.len() {
        let mut bytes = cookie.clone().into_bytes();
        bytes[at] ^= 1;
        forged.extend(String::from_utf8(bytes));
    }
    for cookie in forged {
        let mut verdict = Box::pin(sessions.verify(&cookie));
        let verdict = futures_util::poll!(&mut verdict);
        assert_eq!(
            verdict.map(|verdict| verdict.unwrap_err()),
            std::task::Poll::Ready(invalid(Reason::Malformed)),
            "at once: {cookie}"
        );
    }
    assert!(sessions.verify(&cookie).await.is_ok());
}

#[tokio::test]
async fn d7_64_keys_change_without_signing_anybody_out() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let before = Sessions::new(Arc::clone(&store), keys());
    let cookie = before
        .open(&alice(), None, None)
        .await
        .unwrap()
        .cookie_value;

    let both = SealingKeys::new([[8; 32], KEY]).unwrap();
    let during = Sessions::new(Arc::clone(&store), both);
    assert!(during.verify(&cookie).await.is_ok());
    let newer = during
        .open(&alice(), None, None)
        .await
        .unwrap()
        .cookie_value;

    let after = Sessions::new(store, SealingKeys::new([[8; 32]]).unwrap());
    assert!(after.verify(&newer).await.is_ok());
    assert_eq!(
        after.verify(&cookie).await.unwrap_err(),
        invalid(Reason::Malformed)
    );
}

#[tokio::test]
async fn a_session_ends_when_it_is_not_used_and_in_any_case_after_its_lifetime() {
    let clock = Hand::new();
    let store = MemoryStore::with_clock(clock.clone());
    let sessions = Sessions::new(Arc::new(store), keys())
        .idle(Duration::from_secs(3_600))
        .lifetime(Duration::from_secs(3 * 3_600))
        .clock(clock.clone());
    let used = sessions
        .open(&alice(), None, None)
        .await
        .unwrap()
        .cookie_value;
    let idle = sessions
        .open(&alice(), None, None)
        .await
        .unwrap()
        .cookie_value;
    for round in 0..3 {
        clock.advance(Duration::from_secs(3_500));
        assert!(sessions.verify(&used).await.is_ok());
        if round > 0 {
            assert!(sessions.verify(&idle).await.is_err(), "it was not used");
        }
    }
    clock.advance(Duration::from_secs(400));
    assert!(
        sessions.verify(&used).await.is_err(),
        "its lifetime is over"
    );
}

#[tokio::test]
async fn a_session_that_is_ended_is_over_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let sessions = Sessions::new(store, keys());
        let opened = sessions.open(&person("carol"), None, None).await.unwrap();
        let other = sessions.open(&person("carol"), None, None).await.unwrap();
        assert!(sessions.verify(&opened.cookie_value).await.is_ok());
        assert_eq!(sessions.end(End::Key(opened.key)).await.unwrap(), 1);
        let verdict = sessions.verify(&opened.cookie_value).await;
        assert_eq!(verdict.unwrap_err(), invalid(Reason::Unknown), "{name}");
        let identity = sessions.verify(&other.cookie_value).await.unwrap();
        assert!(sessions.still_is(&identity, true).await.unwrap());
        sessions.end(End::User("carol".into())).await.unwrap();
        assert!(!sessions.still_is(&identity, true).await.unwrap(), "{name}");
    }
}

#[tokio::test]
async fn what_is_in_the_store_says_nothing_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let sessions = Sessions::new(Arc::clone(&store), keys());
        let opened = sessions
            .open(&alice(), Some(due()), Some("canary-agent"))
            .await
            .unwrap();
        let record = store.find(opened.key).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&record.data).into_owned();
        for canary in [
            "alice",
            "example.com",
            "access-0",
            "refresh-0",
            "id-0",
            "canary-agent",
        ] {
            assert!(!text.contains(canary), "{name}: {canary}");
        }
        let shown = format!("{opened:?} {record:?} {sessions:?} {:?}", due());
        for canary in ["alice", "access-0", "refresh-0", &opened.cookie_value] {
            assert!(!shown.contains(canary), "{name}: {shown}");
        }
        // The sealed part of one record opens in no other.
        let stolen = sessions.open(&person("mallory"), None, None).await.unwrap();
        assert!(store.replace(stolen.key, 0, record.data).await.unwrap());
        assert!(
            sessions.verify(&stolen.cookie_value).await.is_err(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_session_cookie_names_a_session_only() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let tokens = tower_sso::session::AccessTokens::new(Arc::clone(&store), keys());
    let day = Duration::from_secs(86_400);
    let (secret, _) = tokens.issue(&alice(), "laptop", &[], day).await.unwrap();
    let sessions = Sessions::new(store, keys());
    let cookie = keys().seal("session cookie", secret.as_bytes());
    assert_eq!(
        sessions.verify(&cookie).await.unwrap_err(),
        invalid(Reason::Unknown)
    );
}
