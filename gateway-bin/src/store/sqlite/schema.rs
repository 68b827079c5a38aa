//! The tables, as forward-only migrations. `token_usage_logs` is made by the ledger of `tower-usage` in the same file.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::store::{MIGRATIONS, StoreError};

/// Each entry is applied once, in order; entries are never changed, only added. Postgres has the same.
const STATEMENTS: [&str; MIGRATIONS.len()] = [
    r"
    -- People as their issuer describes them. An e-mail address may be missing and names nobody.
    CREATE TABLE oauth_users (
        user_id           TEXT NOT NULL PRIMARY KEY,
        provider          TEXT NOT NULL,
        provider_user_id  TEXT NOT NULL,
        email             TEXT,
        email_verified    INTEGER NOT NULL DEFAULT 0,
        name              TEXT,
        avatar_url        TEXT,
        disabled          INTEGER NOT NULL DEFAULT 0,
        created_at        INTEGER NOT NULL,
        updated_at        INTEGER NOT NULL,
        last_login_at     INTEGER NOT NULL,
        UNIQUE (provider, provider_user_id)
    ) STRICT;

    -- Where somebody works. `agent_ready_at` is set once the instance has the agent with this virtual key.
    CREATE TABLE user_openclaw_environments (
        user_id           TEXT NOT NULL PRIMARY KEY REFERENCES oauth_users (user_id),
        workspace_dir     TEXT NOT NULL,
        profile_name      TEXT NOT NULL,
        auth_profile_id   TEXT NOT NULL,
        instance          TEXT NOT NULL,
        agent_id          TEXT NOT NULL UNIQUE,
        agent_spec        TEXT NOT NULL,
        has_sandbox       INTEGER NOT NULL DEFAULT 0,
        agent_ready_at    INTEGER,
        created_at        INTEGER NOT NULL,
        updated_at        INTEGER NOT NULL
    ) STRICT;

    -- What instances present to egress; only the hash is kept.
    CREATE TABLE virtual_keys (
        key_id            TEXT NOT NULL PRIMARY KEY,
        user_id           TEXT NOT NULL REFERENCES oauth_users (user_id),
        hash              BLOB NOT NULL UNIQUE,
        created_at        INTEGER NOT NULL,
        revoked_at        INTEGER
    ) STRICT;
    CREATE INDEX virtual_keys_by_user ON virtual_keys (user_id);

    -- Limits of somebody's own in place of the plan's. A missing amount means unlimited.
    CREATE TABLE user_quotas (
        subject           TEXT NOT NULL,
        dimension         TEXT NOT NULL,
        period            TEXT NOT NULL,
        amount            INTEGER,
        updated_at        INTEGER NOT NULL,
        PRIMARY KEY (subject, dimension, period)
    ) STRICT;

    CREATE TABLE quota_alerts (
        id                TEXT NOT NULL PRIMARY KEY,
        subject           TEXT NOT NULL,
        alert_type        TEXT NOT NULL,
        threshold         INTEGER NOT NULL,
        window_start      INTEGER NOT NULL,
        used              INTEGER NOT NULL,
        amount            INTEGER NOT NULL,
        state             TEXT NOT NULL,
        triggered_at      INTEGER NOT NULL,
        acknowledged_at   INTEGER,
        resolved_at       INTEGER,
        resolved_by       TEXT,
        note              TEXT,
        UNIQUE (subject, alert_type, threshold, window_start)
    ) STRICT;

    CREATE TABLE user_environment_snapshots (
        id                TEXT NOT NULL PRIMARY KEY,
        user_id           TEXT NOT NULL REFERENCES oauth_users (user_id),
        snapshot          TEXT NOT NULL,
        created_at        INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX user_environment_snapshots_by_user ON user_environment_snapshots (user_id, created_at);

    -- Keys of the gateway itself: its device, the key of gateway passwords.
    CREATE TABLE gateway_keys (
        name              TEXT NOT NULL PRIMARY KEY,
        secret            BLOB NOT NULL
    ) STRICT;
    ",
    r"
    -- Who has which place on which instance. A place is not given to anybody else.
    CREATE TABLE assignments (
        user_id           TEXT NOT NULL PRIMARY KEY REFERENCES oauth_users (user_id),
        instance          TEXT NOT NULL,
        slot              INTEGER NOT NULL,
        created_at        INTEGER NOT NULL,
        UNIQUE (instance, slot)
    ) STRICT;

    -- An agent's id names one agent of one instance.
    CREATE TABLE environments_of_instances (
        user_id           TEXT NOT NULL PRIMARY KEY REFERENCES oauth_users (user_id),
        workspace_dir     TEXT NOT NULL,
        profile_name      TEXT NOT NULL,
        auth_profile_id   TEXT NOT NULL,
        instance          TEXT NOT NULL,
        agent_id          TEXT NOT NULL,
        agent_spec        TEXT NOT NULL,
        has_sandbox       INTEGER NOT NULL DEFAULT 0,
        agent_ready_at    INTEGER,
        created_at        INTEGER NOT NULL,
        updated_at        INTEGER NOT NULL,
        UNIQUE (instance, agent_id)
    ) STRICT;
    INSERT INTO environments_of_instances SELECT user_id, workspace_dir, profile_name, auth_profile_id, instance,
        agent_id, agent_spec, has_sandbox, agent_ready_at, created_at, updated_at FROM user_openclaw_environments;
    DROP TABLE user_openclaw_environments;
    ALTER TABLE environments_of_instances RENAME TO user_openclaw_environments;
    ",
    r"
    -- Who people of another issuer are here, where they are not users of their own.
    CREATE TABLE identities (
        provider          TEXT NOT NULL,
        subject           TEXT NOT NULL,
        user_id           TEXT NOT NULL REFERENCES oauth_users (user_id),
        linked_by         TEXT NOT NULL,
        created_at        INTEGER NOT NULL,
        PRIMARY KEY (provider, subject)
    ) STRICT;
    CREATE INDEX identities_by_user ON identities (user_id);
    CREATE INDEX oauth_users_by_email ON oauth_users (email COLLATE NOCASE);
    ",
    r"
    -- More of a limit, for a time.
    CREATE TABLE quota_grants (
        subject           TEXT NOT NULL,
        dimension         TEXT NOT NULL,
        period            TEXT NOT NULL,
        amount            INTEGER NOT NULL,
        expires_at        INTEGER NOT NULL,
        created_at        INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX quota_grants_by_subject ON quota_grants (subject);

    -- The plan and the time zone of who has not the default ones.
    CREATE INDEX quota_alerts_by_time ON quota_alerts (triggered_at);
    CREATE TABLE user_plans (
        subject           TEXT NOT NULL PRIMARY KEY,
        plan              TEXT,
        time_zone         TEXT,
        updated_at        INTEGER NOT NULL
    ) STRICT;
    ",
    r"
    -- When somebody is to be told of an alert, or to be told again; null: there is nobody to be told.
    ALTER TABLE quota_alerts ADD COLUMN deliver_at INTEGER;
    ALTER TABLE quota_alerts ADD COLUMN delivery_attempts INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX quota_alerts_by_delivery ON quota_alerts (deliver_at) WHERE deliver_at IS NOT NULL;

    -- What other gateways have done lately.
    CREATE INDEX virtual_keys_by_change ON virtual_keys (coalesce(revoked_at, created_at));
    CREATE INDEX identities_by_time ON identities (created_at);
    ",
    r"
    -- The ledgers that are counted together in shared counters: should those lose them, all are waited for.
    CREATE TABLE quota_counting (
        ledger            TEXT NOT NULL PRIMARY KEY,
        created_at        INTEGER NOT NULL
    ) STRICT;

    -- What one gateway does at a time.
    CREATE TABLE leases (
        name              TEXT NOT NULL PRIMARY KEY,
        holder            TEXT NOT NULL,
        ends_at           INTEGER NOT NULL
    ) STRICT;
    ",
    r"
    -- Keys of people's own at providers, each sealed under a master key; empty: it was taken away.
    CREATE TABLE provider_keys (
        user_id           TEXT NOT NULL,
        provider          TEXT NOT NULL,
        sealed            BLOB NOT NULL,
        updated_at        INTEGER NOT NULL,
        PRIMARY KEY (user_id, provider)
    ) STRICT;
    CREATE INDEX provider_keys_by_change ON provider_keys (updated_at);
    ",
    r"
    -- From when on, and until when, the messages of an instance that calls its providers itself are in some ledger.
    CREATE TABLE observed_instances (
        instance          TEXT NOT NULL PRIMARY KEY,
        since             INTEGER NOT NULL,
        seen_until        INTEGER NOT NULL
    ) STRICT;
    ",
    r"
    -- Instances that nobody new is sent to.
    CREATE TABLE drained_instances (
        instance          TEXT NOT NULL PRIMARY KEY,
        since             INTEGER NOT NULL
    ) STRICT;
    ",
    r"
    -- Who is being deleted, and who was: their user id stays, for the books.
    ALTER TABLE oauth_users ADD COLUMN deletion_begun_at INTEGER;
    ALTER TABLE oauth_users ADD COLUMN deleted_at INTEGER;

    -- Places that somebody had who was deleted. The instance may still have something of theirs there.
    CREATE TABLE retired_slots (
        instance          TEXT NOT NULL,
        slot              INTEGER NOT NULL,
        PRIMARY KEY (instance, slot)
    ) STRICT;

    -- What there was of somebody at a time. Nothing was ever in the table of this name.
    DROP TABLE user_environment_snapshots;
    CREATE TABLE user_environment_snapshots (
        id                TEXT NOT NULL PRIMARY KEY,
        user_id           TEXT NOT NULL REFERENCES oauth_users (user_id),
        snapshot_type     TEXT NOT NULL,
        snapshot_data     TEXT NOT NULL,
        created_at        INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX user_environment_snapshots_by_user ON user_environment_snapshots (user_id, created_at);
    CREATE INDEX user_environment_snapshots_by_time ON user_environment_snapshots (created_at);
    ",
    r"
    -- Whose agent a key is for, and where; older ones do not say.
    ALTER TABLE virtual_keys ADD COLUMN instance TEXT;
    ALTER TABLE virtual_keys ADD COLUMN agent_id TEXT;
    ",
    r"
    -- Instances that administrators have added to those of the configuration file; what was said of them is sealed.
    CREATE TABLE added_instances (
        name              TEXT NOT NULL PRIMARY KEY,
        sealed            BLOB NOT NULL,
        created_at        INTEGER NOT NULL
    ) STRICT;
    ",
    r"
    -- The operating-system user of somebody's cell. It is not given to anybody else, also if they are deleted.
    CREATE TABLE cell_os_users (
        user_id           TEXT NOT NULL PRIMARY KEY,
        os_user           INTEGER NOT NULL UNIQUE,
        created_at        INTEGER NOT NULL
    ) STRICT;
    ",
    r"
    -- What administrators have done. Rows are added and nothing else: what was done stays done.
    CREATE TABLE admin_audit (
        id                TEXT NOT NULL PRIMARY KEY,
        act               TEXT NOT NULL,
        created_at        INTEGER NOT NULL,
        actor_kind        TEXT NOT NULL,
        actor             TEXT NOT NULL,
        address           TEXT,
        action            TEXT NOT NULL,
        user_id           TEXT,
        object            TEXT,
        state_before      TEXT,
        state_after       TEXT,
        result            TEXT NOT NULL,
        code              TEXT
    ) STRICT;
    CREATE INDEX admin_audit_by_user ON admin_audit (user_id, id);
    CREATE INDEX admin_audit_by_time ON admin_audit (created_at);
    CREATE TRIGGER admin_audit_is_not_changed BEFORE UPDATE ON admin_audit
        BEGIN SELECT RAISE(ABORT, 'admin_audit is append-only'); END;
    CREATE TRIGGER admin_audit_is_not_emptied BEFORE DELETE ON admin_audit
        BEGIN SELECT RAISE(ABORT, 'admin_audit is append-only'); END;
    -- INSERT OR REPLACE deletes without the trigger above.
    CREATE TRIGGER admin_audit_is_not_replaced BEFORE INSERT ON admin_audit
        WHEN EXISTS (SELECT 1 FROM admin_audit WHERE id = NEW.id)
        BEGIN SELECT RAISE(ABORT, 'admin_audit is append-only'); END;
    ",
];

/// Brings the tables to this version; a file that a newer version has written is refused.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    migrate_to(connection, STATEMENTS.len())
}

/// Brings them to this version, if they are of an earlier one.
pub(in crate::store) fn migrate_to(
    connection: &mut Connection,
    known: usize,
) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS gateway_schema (version INTEGER NOT NULL) STRICT;",
    )?;
    let done: u32 = transaction.query_row(
        "SELECT coalesce(max(version), 0) FROM gateway_schema",
        [],
        |row| row.get(0),
    )?;
    if done as usize > STATEMENTS.len() {
        return Err(StoreError::Newer { version: done });
    }
    let missing = (1..).zip(STATEMENTS.iter().take(known));
    for (version, migration) in missing.filter(|(version, _)| *version > done) {
        apply(&transaction, version, migration)?;
    }
    Ok(transaction.commit()?)
}

fn apply(transaction: &Transaction<'_>, version: u32, migration: &str) -> rusqlite::Result<()> {
    transaction.execute_batch(migration)?;
    transaction
        .execute(
            "INSERT INTO gateway_schema (version) VALUES (?1)",
            [version],
        )
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_a_newer_version_are_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let newer = "INSERT INTO gateway_schema (version) VALUES (999)";
        connection.execute_batch(newer).unwrap();
        let refused = migrate(&mut connection);
        assert!(matches!(refused, Err(StoreError::Newer { version: 999 })));
    }
}
