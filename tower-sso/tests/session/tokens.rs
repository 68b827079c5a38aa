use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tower_sso::{
    CredentialKind, Reason, Verify, VerifyError,
    session::{AccessTokens, IssueError, Key, Kind, MemoryStore, Store},
};

use crate::support::{Flaky, Hand, alice, keys, person, record, stores};

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn a_token_is_its_users_with_its_own_scopes_and_no_roles() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let tokens = AccessTokens::new(Arc::clone(&store), keys()).prefix("ocg_pat_");
        let user = person(&format!("dave-{name}"));
        let scopes = ["read".to_owned()];
        let (secret, token) = tokens
            .issue(&user, " my laptop\n", &scopes, DAY)
            .await
            .unwrap();
        assert!(secret.starts_with("ocg_pat_"), "{name}");
        assert!(!format!("{token:?}").contains("laptop"), "{token:?}");
        assert_eq!((token.name(), token.last_used_at()), ("my laptop", None));
        let identity = tokens.verify(&secret).await.unwrap();
        assert_eq!(identity.user_id(), user.user_id());
        assert_eq!(identity.scopes(), [Box::<str>::from("read")]);
        assert!(identity.roles().is_empty() && identity.groups().is_empty());
        assert_eq!(identity.kind(), CredentialKind::AccessToken);
        assert_eq!(identity.credential_id(), Some(&*token.id()));
        assert_eq!(identity.expires_at(), Some(token.expires_at()));
        let listed = tokens.list(user.user_id()).await.unwrap();
        assert!(
            listed[0].last_used_at().is_some(),
            "{name}: its use is recorded"
        );

        let record = store
            .find(Key::parse(&token.id()).unwrap())
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8_lossy(&record.data).into_owned();
        assert!(
            !text.contains("laptop") && !text.contains(&secret[8..]),
            "{name}"
        );
        assert_eq!(
            record.key,
            Key::of_secret(secret.as_bytes()),
            "only the hash is kept"
        );

        assert!(
            !tokens.revoke("mallory", &token.id()).await.unwrap(),
            "{name}: not theirs"
        );
        assert!(!tokens.revoke(user.user_id(), "x").await.unwrap());
        assert!(tokens.verify(&secret).await.is_ok());
        assert!(tokens.revoke(user.user_id(), &token.id()).await.unwrap());
        let verdict = tokens.verify(&secret).await;
        assert_eq!(
            verdict.unwrap_err(),
            VerifyError::Invalid(Reason::Unknown),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_mistyped_token_is_refused_without_asking_the_store() {
    let tokens = AccessTokens::new(Arc::new(MemoryStore::new()), keys());
    let (secret, _) = tokens.issue(&alice(), "laptop", &[], DAY).await.unwrap();
    let mut typed = Vec::new();
    for at in 4..secret.len() {
        let mut bytes = secret.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        typed.extend(String::from_utf8(bytes));
    }
    typed.extend([
        String::new(),
        "pat_".into(),
        secret[..20].into(),
        secret.replace("pat_", "tap_"),
    ]);
    for token in typed {
        let mut verdict = Box::pin(tokens.verify(&token));
        let verdict = futures_util::poll!(&mut verdict);
        assert!(matches!(verdict, std::task::Poll::Ready(Err(_))), "{token}");
    }
}

#[tokio::test]
async fn a_token_ends_by_time_and_there_are_not_too_many() {
    let clock = Hand::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with_clock(clock.clone()));
    let tokens = AccessTokens::new(Arc::clone(&store), keys()).clock(clock.clone());
    let (secret, _) = tokens.issue(&alice(), "laptop", &[], DAY).await.unwrap();
    assert!(tokens.verify(&secret).await.is_ok());
    clock.advance(DAY);
    assert!(tokens.verify(&secret).await.is_err());
    for days in [0, 366] {
        let issued = tokens.issue(&alice(), "x", &[], DAY * days).await;
        assert!(matches!(issued, Err(IssueError::Lifetime)), "{days}");
    }
    let issued = tokens.issue(&alice(), " \u{7}", &[], DAY).await;
    assert!(matches!(issued, Err(IssueError::Name)));
    for n in 0..50 {
        tokens
            .issue(&alice(), &n.to_string(), &[], DAY)
            .await
            .unwrap();
    }
    let issued = tokens.issue(&alice(), "one more", &[], DAY).await;
    assert!(matches!(issued, Err(IssueError::TooMany)));
    assert_eq!(
        store.list("alice", Kind::AccessToken).await.unwrap().len(),
        50
    );
}

#[tokio::test]
async fn of_a_hundred_at_once_fifty_are_issued() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let user = person(&format!(
            "crowd-{name}-{:?}",
            record("crowd", Kind::Session).key
        ));
        // As at two servers.
        let servers = [(); 2].map(|()| AccessTokens::new(Arc::clone(&store), keys()));
        let issued = (0..100).map(|n| {
            let server = &servers[n % 2];
            let user = &user;
            async move { server.issue(user, &n.to_string(), &[], DAY).await }
        });
        let begun = std::time::Instant::now();
        let answers = join_all(issued).await;
        println!("{name}: {:?}", begun.elapsed());
        let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
        let refused: Vec<_> = refused.collect();
        assert_eq!(refused.len(), 50, "{name}: {refused:?}");
        assert!(
            refused
                .iter()
                .all(|error| matches!(error, IssueError::TooMany)),
            "{name}: {refused:?}"
        );
        let listed = servers[0].list(user.user_id()).await.unwrap();
        assert_eq!(listed.len(), 50, "{name}");
        // One less makes room for one.
        let revoked = servers[0].revoke(user.user_id(), &listed[0].id()).await;
        assert!(revoked.unwrap(), "{name}");
        servers[1].issue(&user, "more", &[], DAY).await.unwrap();
        let more = servers[0].issue(&user, "too many", &[], DAY).await;
        assert!(matches!(more, Err(IssueError::TooMany)), "{name}");
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_looked_up_is_unavailable_and_not_invalid() {
    let store = Arc::new(Flaky::new(MemoryStore::new()));
    let tokens = AccessTokens::new(store.clone(), keys());
    let day = Duration::from_secs(86_400);
    let (secret, _) = tokens.issue(&alice(), "laptop", &[], day).await.unwrap();
    store.set_away(true);
    let verdict = tokens.verify(&secret).await.unwrap_err();
    assert_eq!(verdict, VerifyError::Unavailable);
    assert!(tokens.issue(&alice(), "x", &[], day).await.is_err());
    store.set_away(false);
    assert!(tokens.verify(&secret).await.is_ok());
}
