//! Tables of each earlier version, with rows in them, become those of a new store and keep their rows.

use std::path::Path;

use rusqlite::Connection;
use tokio_postgres::Client;

use super::testing::{Database, client};
use super::{MIGRATIONS, Store, find_in_database, find_in_file, postgres, sqlite};

/// A row that a version has room for first, and what is true of it ever after: that there is one such.
struct Kept {
    since: usize,
    row: &'static str,
    is: &'static str,
}

/// `{}` is a byte in the words of the database. The first ones are in tables that later versions change or make anew.
const KEPT: [Kept; 14] = [
    Kept {
        since: 1,
        row: "INSERT INTO oauth_users (user_id, provider, provider_user_id, email, created_at, updated_at, last_login_at)
              VALUES ('alice', 'corp', 'a', 'A@example.com', 1, 2, 3)",
        is: "oauth_users WHERE user_id = 'alice' AND email = 'A@example.com' AND NOT disabled AND last_login_at = 3",
    },
    Kept {
        since: 1,
        row: "INSERT INTO user_openclaw_environments (user_id, workspace_dir, profile_name, auth_profile_id, instance,
              agent_id, agent_spec, agent_ready_at, created_at, updated_at)
              VALUES ('alice', '/w', 'p', 'ap', 'one', 'slot-001', 'spec', 4, 5, 6)",
        is: "user_openclaw_environments WHERE user_id = 'alice' AND workspace_dir = '/w' AND profile_name = 'p'
             AND auth_profile_id = 'ap' AND instance = 'one' AND agent_id = 'slot-001' AND agent_spec = 'spec'
             AND NOT has_sandbox AND agent_ready_at = 4 AND created_at = 5 AND updated_at = 6",
    },
    Kept {
        since: 1,
        row: "INSERT INTO virtual_keys (key_id, user_id, hash, created_at) VALUES ('k', 'alice', {}, 7)",
        is: "virtual_keys WHERE key_id = 'k' AND user_id = 'alice' AND hash = {} AND revoked_at IS NULL",
    },
    Kept {
        since: 1,
        row: "INSERT INTO quota_alerts (id, subject, alert_type, threshold, window_start, used, amount, state, triggered_at)
              VALUES ('a', 'alice', 'daily_tokens', 80, 0, 1, 2, 'triggered', 8)",
        // Nobody is told of what was before there was anybody to be told.
        is: "quota_alerts WHERE id = 'a' AND threshold = 80 AND triggered_at = 8",
    },
    Kept {
        since: 1,
        row: "INSERT INTO user_quotas (subject, dimension, period, updated_at) VALUES ('alice', 'tokens', 'day', 9)",
        is: "user_quotas WHERE subject = 'alice' AND amount IS NULL AND updated_at = 9",
    },
    Kept {
        since: 1,
        row: "INSERT INTO gateway_keys (name, secret) VALUES ('device', {})",
        is: "gateway_keys WHERE name = 'device' AND secret = {}",
    },
    Kept {
        since: 2,
        row: "INSERT INTO assignments (user_id, instance, slot, created_at) VALUES ('alice', 'one', 1, 10)",
        is: "assignments WHERE user_id = 'alice' AND instance = 'one' AND slot = 1",
    },
    Kept {
        since: 3,
        row: "INSERT INTO identities (provider, subject, user_id, linked_by, created_at)
              VALUES ('github', '7', 'alice', 'admin', 11)",
        is: "identities WHERE provider = 'github' AND subject = '7' AND user_id = 'alice'",
    },
    Kept {
        since: 4,
        row: "INSERT INTO quota_grants (subject, dimension, period, amount, expires_at, created_at)
              VALUES ('alice', 'calls', 'day', 5, 12, 13)",
        is: "quota_grants WHERE subject = 'alice' AND amount = 5 AND expires_at = 12",
    },
    Kept {
        since: 5,
        row: "INSERT INTO quota_alerts (id, subject, alert_type, threshold, window_start, used, amount, state, triggered_at,
              deliver_at, delivery_attempts)
              VALUES ('b', 'alice', 'daily_tokens', 90, 0, 1, 2, 'triggered', 8, 14, 2)",
        is: "quota_alerts WHERE id = 'b' AND deliver_at = 14 AND delivery_attempts = 2",
    },
    Kept {
        since: 6,
        row: "INSERT INTO quota_counting (ledger, created_at) VALUES ('l', 15)",
        is: "quota_counting WHERE ledger = 'l'",
    },
    Kept {
        since: 7,
        row: "INSERT INTO provider_keys (user_id, provider, sealed, updated_at) VALUES ('alice', 'openai', {}, 16)",
        is: "provider_keys WHERE user_id = 'alice' AND sealed = {}",
    },
    Kept {
        since: 10,
        row: "INSERT INTO user_environment_snapshots (id, user_id, snapshot_type, snapshot_data, created_at)
              VALUES ('s', 'alice', 'quota_status', '[1]', 17)",
        is: "user_environment_snapshots WHERE id = 's' AND created_at = 17",
    },
    Kept {
        since: 13,
        row: "INSERT INTO cell_os_users (user_id, os_user, created_at) VALUES ('alice', 700000, 18)",
        is: "cell_os_users WHERE user_id = 'alice' AND os_user = 700000",
    },
];

/// What is true of rows of before a column was there.
const ADDED: [(usize, &str); 3] = [
    (
        4,
        "quota_alerts WHERE id = 'a' AND deliver_at IS NULL AND delivery_attempts = 0",
    ),
    (
        9,
        "oauth_users WHERE user_id = 'alice' AND deletion_begun_at IS NULL AND deleted_at IS NULL",
    ),
    (
        10,
        "virtual_keys WHERE key_id = 'k' AND instance IS NULL AND agent_id IS NULL",
    ),
];

/// What is to be found once when tables of this version are up to date.
fn kept_since(version: usize) -> impl Iterator<Item = &'static str> {
    let rows = KEPT.iter().filter(move |kept| kept.since <= version);
    let added = ADDED
        .iter()
        .filter(move |(until, _)| (1..=*until).contains(&version));
    rows.map(|kept| kept.is).chain(added.map(|(_, is)| *is))
}

// === SQLite ===

fn schema_of_file(path: &Path) -> Vec<String> {
    let file = Connection::open(path).unwrap();
    let dump = "SELECT type || ' ' || name || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_master ORDER BY 1";
    let mut dump = file.prepare(dump).unwrap();
    let rows = dump.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test]
async fn files_of_each_earlier_version_become_as_new_ones_and_keep_their_rows() {
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("new.db");
    drop(Store::open(&new).unwrap());
    let schema = schema_of_file(&new);
    assert!(schema.len() > 30, "{schema:?}");
    for version in 0..MIGRATIONS.len() {
        let path = dir.path().join(format!("{version}.db"));
        {
            let mut file = Connection::open(&path).unwrap();
            file.pragma_update(None, "foreign_keys", true).unwrap();
            sqlite::migrate_to(&mut file, version).unwrap();
            for kept in KEPT.iter().filter(|kept| kept.since <= version) {
                file.execute(&kept.row.replace("{}", "X'01'"), []).unwrap();
            }
        }
        let found = find_in_file(&path).unwrap();
        assert_eq!(found.state as usize, version);
        let store = Store::open(&path).unwrap();
        if version > 0 {
            let alice = store.find_user(&"alice".into()).await.unwrap();
            assert!(alice.is_some(), "{version}");
        }
        drop(store);
        assert_eq!(schema_of_file(&path), schema, "{version}");
        let file = Connection::open(&path).unwrap();
        for is in kept_since(version) {
            let count = format!("SELECT count(*) FROM {}", is.replace("{}", "X'01'"));
            let count: u32 = file.query_row(&count, [], |row| row.get(0)).unwrap();
            assert_eq!(count, 1, "{version}: {is}");
        }
        let broken = file.prepare("PRAGMA foreign_key_check").unwrap().exists([]);
        assert!(!broken.unwrap(), "{version}: a reference leads nowhere");
    }
}

// === Postgres ===

async fn schema_of_database(client: &Client) -> Vec<String> {
    let dump = "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
            || coalesce(column_default, '') || ' ' || is_identity
        FROM information_schema.columns WHERE table_schema = current_schema()
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = current_schema()
        UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = current_schema()::regnamespace
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
        ORDER BY 1";
    let rows = client.query(dump, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn databases_of_each_earlier_version_become_as_new_ones_and_keep_their_rows() {
    let Some(new) = Database::new().await else {
        return;
    };
    drop(new.store().await);
    let schema = schema_of_database(&client(&new.url).await).await;
    assert!(schema.len() > 100, "{schema:?}");
    new.end().await;
    for version in 0..MIGRATIONS.len() {
        let Some(database) = Database::new().await else {
            return;
        };
        let mut client = client(&database.url).await;
        postgres::migrate_to(&mut client, version).await.unwrap();
        for kept in KEPT.iter().filter(|kept| kept.since <= version) {
            let row = kept.row.replace("{}", "'\\x01'");
            client.batch_execute(&row).await.unwrap();
        }
        let found = find_in_database(&database.url).await.unwrap();
        assert_eq!(found.state as usize, version);
        let store = database.store().await;
        if version > 0 {
            let alice = store.find_user(&"alice".into()).await.unwrap();
            assert!(alice.is_some(), "{version}");
        }
        assert_eq!(schema_of_database(&client).await, schema, "{version}");
        for is in kept_since(version) {
            let count = format!("SELECT count(*) FROM {}", is.replace("{}", "'\\x01'"));
            let count: i64 = client.query_one(&count, &[]).await.unwrap().get(0);
            assert_eq!(count, 1, "{version}: {is}");
        }
        drop((store, client));
        database.end().await;
    }
}
