use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::timeout};
use tower_sso::{
    Identity, Reason, Verdicts, Verify, VerifyError, VerifyFuture,
    session::{AccessTokens, End, Endings, MemoryStore, Sessions, Store},
};

use crate::support::{keys, person, stores};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn d3_36_what_ends_at_one_server_ends_at_the_other_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let user = person(&format!("erin-{name}"));
        let verdicts = Verdicts::new(100);
        let here = Sessions::new(Arc::clone(&store), keys());
        let there = Sessions::new(Arc::clone(&store), keys()).verdicts(verdicts.clone());
        let endings = Endings::start(Arc::clone(&store), verdicts).await.unwrap();
        let ends = [
            (|key, _: &Identity| End::Key(key)) as fn(_, &Identity) -> End,
            |_, user| End::User(Arc::clone(user.user_id())),
            |_, user| End::IssuerSession {
                provider: user.provider().into(),
                session_id: user.session_id().unwrap().into(),
            },
            |_, user| End::Subject {
                provider: user.provider().into(),
                subject: Arc::clone(user.subject()),
            },
        ];
        for end in ends {
            let opened = here.open(&user, None, None).await.unwrap();
            let identity = there.verify(&opened.cookie_value).await.unwrap();
            let others = Arc::new(person("somebody-else"));
            let (gone, stays) = (endings.ended(&identity), endings.ended(&others));
            let what = end(opened.key, &user);
            here.end(what.clone()).await.unwrap();
            timeout(SECOND, gone)
                .await
                .unwrap_or_else(|_| panic!("{name}: {what:?}"));
            assert!(
                there.verify(&opened.cookie_value).await.is_err(),
                "{name}: {what:?}"
            );
            let soon = Duration::from_millis(50);
            assert!(timeout(soon, stays).await.is_err(), "{name}: {what:?}");
            // Who comes back at once is told of that end too.
            tokio::time::sleep(SECOND / 4).await;
        }
    }
}

#[tokio::test]
async fn a_user_who_is_disabled_is_out_everywhere_within_a_second_and_stays_out() {
    let dir = tempfile::tempdir().unwrap();
    for (name, store) in stores(dir.path()).await {
        let user = person(&format!("frank-{name}"));
        let verdicts = Verdicts::new(100);
        let endings = Endings::start(Arc::clone(&store), verdicts.clone())
            .await
            .unwrap();
        let tokens = AccessTokens::new(Arc::clone(&store), keys()).verdicts(verdicts);
        let day = Duration::from_secs(86_400);
        let (secret, _) = tokens.issue(&user, "x", &[], day).await.unwrap();
        let tokens = endings.guard(tokens);
        assert!(tokens.verify(&secret).await.is_ok());

        // Their token of the issuer is good still.
        let bearer = Arc::new(user.clone());
        let answer = Arc::clone(&bearer);
        let issuer = endings.guard(move |_: &str| VerifyFuture::ready(Ok(Arc::clone(&answer))));
        for round in 0..2 {
            assert!(issuer.verify("jwt").await.is_ok(), "{name} {round}");
            let socket = endings.ended(&bearer);
            store.set_disabled(user.user_id(), true).await.unwrap();
            timeout(SECOND, socket).await.unwrap();
            let verdict = issuer.verify("jwt").await;
            assert_eq!(
                verdict.unwrap_err(),
                VerifyError::Invalid(Reason::Revoked),
                "{name}"
            );
            assert!(tokens.verify(&secret).await.is_err(), "{name}");
            let late = endings.ended(&bearer);
            timeout(SECOND, late).await.unwrap();
            let again = Endings::start(Arc::clone(&store), Verdicts::new(1))
                .await
                .unwrap();
            assert!(
                again.is_disabled(user.user_id()),
                "{name}: a restart forgets nothing"
            );

            store.set_disabled(user.user_id(), false).await.unwrap();
            tokio::time::sleep(SECOND).await;
            assert!(!endings.is_disabled(user.user_id()), "{name}");
        }
        let session = Sessions::new(store, keys());
        assert!(session.list(user.user_id()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn d3_36_a_flood_of_endings_ends_only_whom_it_names() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let endings = Endings::start(Arc::clone(&store), Verdicts::new(1));
    let endings = endings.await.unwrap();
    let sockets: Vec<_> = (0..1_000)
        .map(|n| tokio::spawn(endings.ended(&Arc::new(person(&format!("stays-{n}"))))))
        .collect();
    let named = endings.ended(&Arc::new(person("named")));
    for n in 0..10_000 {
        let user_id = format!("gone-{n}").into();
        store.end(End::User(user_id)).await.unwrap();
    }
    store.end(End::User("named".into())).await.unwrap();
    timeout(SECOND, named).await.unwrap();
    let over = sockets.iter().filter(|socket| socket.is_finished());
    assert_eq!(over.count(), 0);
}

#[tokio::test]
async fn d3_36_who_ends_while_a_verdict_is_made_or_just_after_is_out() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let endings = Endings::start(Arc::clone(&store), Verdicts::new(1));
    let endings = endings.await.unwrap();
    let user = Arc::new(person("grace"));
    let asked = Arc::new(Notify::new());
    let (answer, may) = (Arc::clone(&user), Arc::clone(&asked));
    let verifier = endings.guard(move |_: &str| {
        let (answer, may) = (Arc::clone(&answer), Arc::clone(&may));
        VerifyFuture::boxed(async move {
            may.notified().await;
            Ok(answer)
        })
    });

    let slow = tokio::spawn(verifier.verify("token"));
    tokio::task::yield_now().await;
    let until_heard = endings.ended(&user);
    store.end(End::User("grace".into())).await.unwrap();
    timeout(SECOND, until_heard).await.unwrap();
    asked.notify_one();
    let verdict = slow.await.unwrap();
    assert_eq!(verdict.unwrap_err(), VerifyError::Invalid(Reason::Revoked));

    let just_after = endings.ended(&user);
    timeout(SECOND / 10, just_after).await.unwrap();
    asked.notify_one();
    assert!(verifier.verify("token").await.is_ok(), "anew");
    tokio::time::sleep(SECOND / 4).await;
    let stays = endings.ended(&user);
    assert!(timeout(SECOND / 10, stays).await.is_err());
}
