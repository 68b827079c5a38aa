//! The tables, as forward-only migrations with the numbers and columns of SQLite's. A table whose order of insertion
//! matters has a column `rowid`, which every table has there.

use tokio_postgres::{Client, Transaction};

use crate::store::{MIGRATIONS, StoreError};

/// Each entry is applied once, in order; entries are never changed, only added. SQLite has the same.
const STATEMENTS: [&str; MIGRATIONS.len()] = [
    r"
    -- People as their issuer describes them. An e-mail address may be missing and names nobody.
    CREATE TABLE oauth_users (
        user_id           TEXT NOT NULL PRIMARY KEY,
        provider          TEXT NOT NULL,
        provider_user_id  TEXT NOT NULL,
        email             TEXT,
        email_verified    BOOLEAN NOT NULL DEFAULT false,
        name              TEXT,
        avatar_url        TEXT,
        disabled          BOOLEAN NOT NULL DEFAULT false,
        created_at        BIGINT NOT NULL,
        updated_at        BIGINT NOT NULL,
        last_login_at     BIGINT NOT NULL,
        UNIQUE (provider, provider_user_id)
    );

    -- Where somebody works. `agent_ready_at` is set once the instance has the agent with this virtual key.
    CREATE TABLE user_openclaw_environments (
        user_id           TEXT NOT NULL PRIMARY KEY REFERENCES oauth_users (user_id),
        workspace_dir     TEXT NOT NULL,
        profile_name      TEXT NOT NULL,
        auth_profile_id   TEXT NOT NULL,
        instance          TEXT NOT NULL,
        agent_id          TEXT NOT NULL,
        agent_spec        TEXT NOT NULL,
        has_sandbox       BOOLEAN NOT NULL DEFAULT false,
        agent_ready_at    BIGINT,
        created_at        BIGINT NOT NULL,
        updated_at        BIGINT NOT NULL,
        UNIQUE (instance, agent_id)
    );

    -- What instances present to egress; only the hash is kept.
    CREATE TABLE virtual_keys (
        key_id            TEXT NOT NULL PRIMARY KEY,
        user_id           TEXT NOT NULL REFERENCES oauth_users (user_id),
        hash              BYTEA NOT NULL UNIQUE,
        created_at        BIGINT NOT NULL,
        revoked_at        BIGINT
    );
    CREATE INDEX virtual_keys_by_user ON virtual_keys (user_id);

    -- Limits of somebody's own in place of the plan's. A missing amount means unlimited.
    CREATE TABLE user_quotas (
        rowid             BIGINT GENERATED ALWAYS AS IDENTITY,
        subject           TEXT NOT NULL,
        dimension         TEXT NOT NULL,
        period            TEXT NOT NULL,
        amount            BIGINT,
        updated_at        BIGINT NOT NULL,
        PRIMARY KEY (subject, dimension, period)
    );

    CREATE TABLE quota_alerts (
        rowid             BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE,
        id                TEXT NOT NULL PRIMARY KEY,
        subject           TEXT NOT NULL,
        alert_type        TEXT NOT NULL,
        threshold         BIGINT NOT NULL,
        window_start      BIGINT NOT NULL,
        used              BIGINT NOT NULL,
        amount            BIGINT NOT NULL,
        state             TEXT NOT NULL,
        triggered_at      BIGINT NOT NULL,
        acknowledged_at   BIGINT,
        resolved_at       BIGINT,
        resolved_by       TEXT,
        note              TEXT,
        UNIQUE (subject, alert_type, threshold, window_start)
    );

    CREATE TABLE user_environment_snapshots (
        id                TEXT NOT NULL PRIMARY KEY,
        user_id           TEXT NOT NULL REFERENCES oauth_users (user_id),
        snapshot          TEXT NOT NULL,
        created_at        BIGINT NOT NULL
    );
    CREATE INDEX user_environment_snapshots_by_user ON user_environment_snapshots (user_id, created_at);

    -- Keys of the gateway itself: its device, the key of gateway passwords.
    CREATE TABLE gateway_keys (
        name              TEXT NOT NULL PRIMARY KEY,
        secret            BYTEA NOT NULL
    );
    ",
    r"
    -- Who has which place on which instance. A place is not given to anybody else.
    CREATE TABLE assignments (
        user_id           TEXT NOT NULL PRIMARY KEY REFERENCES oauth_users (user_id),
        instance          TEXT NOT NULL,
        slot              BIGINT NOT NULL,
        created_at        BIGINT NOT NULL,
        UNIQUE (instance, slot)
    );
    ",
    r#"
    -- Who people of another issuer are here, where they are not users of their own.
    CREATE TABLE identities (
        provider          TEXT NOT NULL,
        subject           TEXT NOT NULL,
        user_id           TEXT NOT NULL REFERENCES oauth_users (user_id),
        linked_by         TEXT NOT NULL,
        created_at        BIGINT NOT NULL,
        PRIMARY KEY (provider, subject)
    );
    CREATE INDEX identities_by_user ON identities (user_id);
    CREATE INDEX oauth_users_by_email ON oauth_users (lower(email COLLATE "C"));
    "#,
    r"
    -- More of a limit, for a time.
    CREATE TABLE quota_grants (
        rowid             BIGINT GENERATED ALWAYS AS IDENTITY,
        subject           TEXT NOT NULL,
        dimension         TEXT NOT NULL,
        period            TEXT NOT NULL,
        amount            BIGINT NOT NULL,
        expires_at        BIGINT NOT NULL,
        created_at        BIGINT NOT NULL
    );
    CREATE INDEX quota_grants_by_subject ON quota_grants (subject);

    -- The plan and the time zone of who has not the default ones.
    CREATE INDEX quota_alerts_by_time ON quota_alerts (triggered_at);
    CREATE TABLE user_plans (
        subject           TEXT NOT NULL PRIMARY KEY,
        plan              TEXT,
        time_zone         TEXT,
        updated_at        BIGINT NOT NULL
    );
    ",
    r"
    -- When somebody is to be told of an alert, or to be told again; null: there is nobody to be told.
    ALTER TABLE quota_alerts ADD COLUMN deliver_at BIGINT;
    ALTER TABLE quota_alerts ADD COLUMN delivery_attempts BIGINT NOT NULL DEFAULT 0;
    CREATE INDEX quota_alerts_by_delivery ON quota_alerts (deliver_at) WHERE deliver_at IS NOT NULL;

    -- What other gateways have done lately.
    CREATE INDEX virtual_keys_by_change ON virtual_keys (coalesce(revoked_at, created_at));
    CREATE INDEX identities_by_time ON identities (created_at);
    ",
    r"
    -- The ledgers that are counted together in shared counters: should those lose them, all are waited for.
    CREATE TABLE quota_counting (
        ledger            TEXT NOT NULL PRIMARY KEY,
        created_at        BIGINT NOT NULL
    );

    -- What one gateway does at a time.
    CREATE TABLE leases (
        name              TEXT NOT NULL PRIMARY KEY,
        holder            TEXT NOT NULL,
        ends_at           BIGINT NOT NULL
    );
    ",
    r"
    -- Keys of people's own at providers, each sealed under a master key; empty: it was taken away.
    CREATE TABLE provider_keys (
        user_id           TEXT NOT NULL,
        provider          TEXT NOT NULL,
        sealed            BYTEA NOT NULL,
        updated_at        BIGINT NOT NULL,
        PRIMARY KEY (user_id, provider)
    );
    CREATE INDEX provider_keys_by_change ON provider_keys (updated_at);
    ",
    r"
    -- From when on, and until when, the messages of an instance that calls its providers itself are in some ledger.
    CREATE TABLE observed_instances (
        instance          TEXT NOT NULL PRIMARY KEY,
        since             BIGINT NOT NULL,
        seen_until        BIGINT NOT NULL
    );
    ",
    r"
    -- Instances that nobody new is sent to.
    CREATE TABLE drained_instances (
        instance          TEXT NOT NULL PRIMARY KEY,
        since             BIGINT NOT NULL
    );
    ",
    r"
    -- Who is being deleted, and who was: their user id stays, for the books.
    ALTER TABLE oauth_users ADD COLUMN deletion_begun_at BIGINT;
    ALTER TABLE oauth_users ADD COLUMN deleted_at BIGINT;

    -- Places that somebody had who was deleted. The instance may still have something of theirs there.
    CREATE TABLE retired_slots (
        instance          TEXT NOT NULL,
        slot              BIGINT NOT NULL,
        PRIMARY KEY (instance, slot)
    );

    -- What there was of somebody at a time. Nothing was ever in the table of this name.
    DROP TABLE user_environment_snapshots;
    CREATE TABLE user_environment_snapshots (
        id                TEXT NOT NULL PRIMARY KEY,
        user_id           TEXT NOT NULL REFERENCES oauth_users (user_id),
        snapshot_type     TEXT NOT NULL,
        snapshot_data     TEXT NOT NULL,
        created_at        BIGINT NOT NULL
    );
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
        sealed            BYTEA NOT NULL,
        created_at        BIGINT NOT NULL
    );
    ",
    r"
    -- The operating-system user of somebody's cell. It is not given to anybody else, also if they are deleted.
    CREATE TABLE cell_os_users (
        user_id           TEXT NOT NULL PRIMARY KEY,
        os_user           BIGINT NOT NULL UNIQUE,
        created_at        BIGINT NOT NULL
    );
    ",
    r"
    -- What administrators have done. Rows are added and nothing else: what was done stays done.
    CREATE TABLE admin_audit (
        id                TEXT NOT NULL PRIMARY KEY,
        act               TEXT NOT NULL,
        created_at        BIGINT NOT NULL,
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
    );
    CREATE INDEX admin_audit_by_user ON admin_audit (user_id, id);
    CREATE INDEX admin_audit_by_time ON admin_audit (created_at);
    CREATE FUNCTION admin_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'admin_audit is append-only'; END $$;
    CREATE TRIGGER admin_audit_is_not_changed BEFORE UPDATE OR DELETE ON admin_audit
        FOR EACH ROW EXECUTE FUNCTION admin_audit_is_append_only();
    CREATE TRIGGER admin_audit_is_not_emptied BEFORE TRUNCATE ON admin_audit
        FOR EACH STATEMENT EXECUTE FUNCTION admin_audit_is_append_only();
    ",
];

/// Gateways that start at once go on one after the other; one that hangs is not waited for longer than a start may take.
const TURN: &str =
    "SET LOCAL statement_timeout TO '10s'; SELECT pg_advisory_xact_lock(7305792613150093)";

/// To ask whether a table may be made takes the right to make it, which nobody needs once it is there.
const IS_MADE: &str = "SELECT to_regclass('gateway_schema') IS NOT NULL";

/// Brings the tables to this version; a database that a newer version has written is refused.
pub(super) async fn migrate(client: &mut Client) -> Result<(), StoreError> {
    migrate_to(client, STATEMENTS.len()).await
}

/// Brings them to this version, if they are of an earlier one.
pub(in crate::store) async fn migrate_to(
    client: &mut Client,
    known: usize,
) -> Result<(), StoreError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(TURN).await?;
    let is_made: bool = transaction
        .query_typed_one(IS_MADE, &[])
        .await?
        .try_get(0)?;
    if !is_made {
        let make = "CREATE TABLE gateway_schema (version BIGINT NOT NULL)";
        transaction.batch_execute(make).await?;
    }
    let latest = "SELECT coalesce(max(version), 0) FROM gateway_schema";
    let done: i64 = transaction.query_typed_one(latest, &[]).await?.try_get(0)?;
    let done = u32::try_from(done).unwrap_or(u32::MAX);
    if done as usize > STATEMENTS.len() {
        return Err(StoreError::Newer { version: done });
    }
    let missing = (1..).zip(STATEMENTS.iter().take(known));
    for (version, migration) in missing.filter(|(version, _)| *version > done) {
        apply(&transaction, version, migration).await?;
    }
    Ok(transaction.commit().await?)
}

async fn apply(
    transaction: &Transaction<'_>,
    version: u32,
    migration: &str,
) -> Result<(), tokio_postgres::Error> {
    transaction.batch_execute(migration).await?;
    let note = format!("INSERT INTO gateway_schema (version) VALUES ({version})");
    transaction.batch_execute(&note).await
}

#[cfg(test)]
mod tests {
    use crate::store::Store;
    use crate::store::statement::Statement;
    use crate::store::testing::Database;

    async fn columns(store: &Store, list: &'static str) -> Vec<(String, String)> {
        let columns = store.query(Statement::new(list), |row| Ok((row.get(0)?, row.get(1)?)));
        let mut columns = columns.await.unwrap();
        columns.retain(|(_, column)| column != "rowid");
        columns.sort();
        columns
    }

    #[tokio::test]
    async fn the_tables_have_the_columns_of_sqlites() {
        let Some(database) = Database::new().await else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let file = Store::open(&dir.path().join("gateway.db")).unwrap();
        let in_file = "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'";
        let in_database =
            "SELECT table_name::text, column_name::text FROM information_schema.columns
             WHERE table_schema = current_schema()";
        let in_file = columns(&file, in_file).await;
        assert!(in_file.len() > 50);
        let in_database = columns(&database.store().await, in_database).await;
        assert_eq!(in_database, in_file);
        database.end().await;
    }
}
