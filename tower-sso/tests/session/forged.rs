//! What somebody can do who writes to the store, and has no key.

use std::{sync::Arc, time::Duration};

use rusqlite::{Connection, params};
use tower_sso::{
    Reason, Verify, VerifyError,
    session::{AccessTokens, Key, Sessions, SqliteStore},
};

use crate::support::{alice, keys, person};

/// What is written over one column of a record.
const CHANGES: [&str; 10] = [
    "kind = 3 - kind",
    "user_id = 'mallory'",
    "user_id = ''",
    "provider = 'other'",
    "subject = 'mallory'",
    "session_id = 'sid-of-mallory'",
    "session_id = ''",
    // Characters move from one column to the next.
    "user_id = 'alic', provider = 'ecorp'",
    "provider = 'corpa', subject = 'lice'",
    "data = (SELECT data FROM sso_records WHERE user_id = 'mallory' AND kind = o.kind)",
];

#[tokio::test]
async fn d7_64_a_record_that_was_made_another_users_is_refused() {
    for change in CHANGES {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.db");
        let store = Arc::new(SqliteStore::open(&path).unwrap());
        let other = Connection::open(&path).unwrap();
        // Without verdicts from before.
        let sessions = || Sessions::new(store.clone(), keys());
        let tokens = || AccessTokens::new(store.clone(), keys());
        let day = Duration::from_secs(86_400);
        let mallory = person("mallory");
        sessions().open(&mallory, None, None).await.unwrap();
        tokens().issue(&mallory, "own", &[], day).await.unwrap();

        let opened = sessions().open(&alice(), None, None).await.unwrap();
        let (secret, token) = tokens().issue(&alice(), "laptop", &[], day).await.unwrap();
        sessions().verify(&opened.cookie_value).await.unwrap();
        tokens().verify(&secret).await.unwrap();

        for key in [opened.key, Key::parse(&token.id()).unwrap()] {
            let changed = other.execute(
                &format!("UPDATE sso_records AS o SET {change} WHERE key = ?1"),
                params![key.as_bytes()],
            );
            assert_eq!(changed, Ok(1), "{change}");
        }
        let refused = Err(VerifyError::Invalid(Reason::Unknown));
        let verdict = sessions().verify(&opened.cookie_value).await;
        assert_eq!(verdict.map(drop), refused, "session: {change}");
        let verdict = tokens().verify(&secret).await;
        assert_eq!(verdict.map(drop), refused, "token: {change}");
        assert!(sessions().tokens_of(opened.key).await.unwrap().is_none());
        for user in ["alice", "mallory"] {
            let listed = sessions().list(user).await.unwrap();
            assert!(listed.iter().all(|session| session.key() != opened.key));
            let listed = tokens().list(user).await.unwrap();
            assert!(listed.iter().all(|listed| listed.id() != token.id()));
        }
    }
}
