//! What the server is asked.

/// Several servers may start at once: one after the other makes what is missing.
pub(super) const TABLES: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(7305792613150091);
    CREATE TABLE IF NOT EXISTS sso_records (
        key         bytea PRIMARY KEY,
        kind        smallint NOT NULL,
        user_id     text NOT NULL,
        provider    text NOT NULL,
        subject     text NOT NULL,
        session_id  text,
        created_at  bigint NOT NULL,
        seen_at     bigint NOT NULL,
        expires_at  bigint NOT NULL,
        version     bigint NOT NULL,
        data        bytea NOT NULL,
        lease       bytea,
        lease_until bigint
    );
    CREATE INDEX IF NOT EXISTS sso_records_by_user ON sso_records (user_id, kind, created_at);
    CREATE INDEX IF NOT EXISTS sso_records_by_subject ON sso_records (provider, subject);
    CREATE INDEX IF NOT EXISTS sso_records_by_session ON sso_records (provider, session_id);
    CREATE INDEX IF NOT EXISTS sso_records_by_expiry ON sso_records (expires_at);
    CREATE TABLE IF NOT EXISTS sso_ended (
        id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at    bigint NOT NULL,
        kind  text NOT NULL,
        a     text NOT NULL,
        b     text NOT NULL
    );
    CREATE INDEX IF NOT EXISTS sso_ended_by_time ON sso_ended (at);
    CREATE TABLE IF NOT EXISTS sso_disabled (user_id text PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS sso_claims (key bytea PRIMARY KEY, expires_at bigint NOT NULL);
    CREATE INDEX IF NOT EXISTS sso_claims_by_expiry ON sso_claims (expires_at);
    COMMIT;";

/// The time in milliseconds since 1970.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

macro_rules! columns {
    () => {
        "key, kind, user_id, provider, subject, session_id, created_at, seen_at, expires_at, version, data"
    };
}

/// Tells that something has ended, as `$1`, `$2`, `$3`, and forgets what was told more than an hour ago.
macro_rules! tell {
    () => {
        concat!(
            "old AS (DELETE FROM sso_ended WHERE id IN (SELECT id FROM sso_ended WHERE at < ",
            now!(),
            " - 3600000 LIMIT 100 FOR UPDATE SKIP LOCKED)),
             told AS (INSERT INTO sso_ended (at, kind, a, b) VALUES (",
            now!(),
            ", $1, $2, $3))"
        )
    };
}

pub(super) const INSERT: &str = concat!(
    "WITH old AS (DELETE FROM sso_records WHERE key IN (SELECT key FROM sso_records WHERE expires_at <= ",
    now!(),
    " LIMIT 100 FOR UPDATE SKIP LOCKED))
     INSERT INTO sso_records (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
);

pub(super) const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM sso_records WHERE key = $1 AND expires_at > ",
    now!()
);

pub(super) const TOUCH: &str = concat!(
    "UPDATE sso_records SET seen_at = greatest(seen_at, $2), expires_at = greatest(expires_at, $3)
     WHERE key = $1 AND expires_at > ",
    now!(),
    " RETURNING 1"
);

pub(super) const REPLACE: &str = concat!(
    "UPDATE sso_records SET data = $3, version = $4, lease = NULL, lease_until = NULL
     WHERE key = $1 AND version = $2 AND expires_at > ",
    now!(),
    " RETURNING 1"
);

pub(super) const LEASE: &str = concat!(
    "WITH held AS (SELECT key, lease FROM sso_records WHERE key = $1 AND expires_at > ",
    now!(),
    " AND (lease IS NULL OR lease = $2 OR lease_until <= ",
    now!(),
    ") FOR UPDATE)
     UPDATE sso_records SET lease = $2, lease_until = ",
    now!(),
    " + $3 FROM held WHERE sso_records.key = held.key RETURNING held.lease <> $2"
);

pub(super) const RELEASE: &str =
    "UPDATE sso_records SET lease = NULL, lease_until = NULL WHERE key = $1 AND lease = $2";

pub(super) const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM sso_records WHERE user_id = $1 AND kind = $2 AND expires_at > ",
    now!(),
    " ORDER BY created_at DESC, key DESC LIMIT 1000"
);

macro_rules! end {
    ($condition:literal) => {
        concat!(
            "WITH ",
            tell!(),
            ", gone AS (DELETE FROM sso_records WHERE ",
            $condition,
            " RETURNING 1) SELECT count(*) FROM gone"
        )
    };
}

pub(super) const END_KEY: &str = end!("key = $4");

pub(super) const END_USER: &str = end!("user_id = $2");

pub(super) const END_NOTHING: &str = end!("false");

pub(super) const END_ISSUER_SESSION: &str = end!("provider = $2 AND session_id = $3 AND kind = 1");

pub(super) const END_SUBJECT: &str = end!("provider = $2 AND subject = $3 AND kind = 1");

pub(super) const ENDED: &str = concat!(
    "SELECT id, kind, a, b FROM sso_ended WHERE at >= ",
    now!(),
    " - $1"
);

pub(super) const DISABLE: &str = concat!(
    "WITH ",
    tell!(),
    ", gone AS (DELETE FROM sso_records WHERE user_id = $2)
     INSERT INTO sso_disabled (user_id) VALUES ($2) ON CONFLICT DO NOTHING"
);

pub(super) const ENABLE: &str = concat!(
    "WITH ",
    tell!(),
    " DELETE FROM sso_disabled WHERE user_id = $2"
);

pub(super) const CLAIM: &str = concat!(
    "WITH old AS (DELETE FROM sso_claims WHERE key IN (SELECT key FROM sso_claims WHERE key <> $1 AND expires_at <= ",
    now!(),
    " LIMIT 100 FOR UPDATE SKIP LOCKED))
     INSERT INTO sso_claims (key, expires_at) VALUES ($1, $2)
     ON CONFLICT (key) DO UPDATE SET expires_at = excluded.expires_at WHERE sso_claims.expires_at <= ",
    now!(),
    " RETURNING 1"
);

pub(super) const DISABLED: &str = "SELECT user_id FROM sso_disabled";

/// What comes to the same if it is run twice, as far as its answer and what is kept go: disabling tells
/// so twice then.
pub(super) const REPEATABLE: [&str; 9] = [
    FIND, TOUCH, LEASE, RELEASE, LIST, ENDED, DISABLE, ENABLE, DISABLED,
];
