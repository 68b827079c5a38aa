-- What is kept. Amounts are arrays of tokens, cost and calls, as great as 64 bits without a sign can be; moments are
-- milliseconds since 1970; names are bytes, since text cannot hold every character.

-- Which database this is: part of every ticket.
CREATE TABLE IF NOT EXISTS quota_database (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    id   bigint NOT NULL
);
INSERT INTO quota_database (id) VALUES (('x' || left(gen_random_uuid()::text, 8))::bit(32)::bigint)
    ON CONFLICT DO NOTHING;

-- Terms, and of each family the row (root, '') whose lock its decisions hold.
CREATE TABLE IF NOT EXISTS quota_accounts (
    root     bytea NOT NULL,
    member   bytea NOT NULL,
    version  bigint NOT NULL DEFAULT 0,
    terms    text,
    PRIMARY KEY (root, member)
);

-- What a period has used and holds. Windows are 0 minute, 1 hour, 2 day, 3 month.
CREATE TABLE IF NOT EXISTS quota_counters (
    root       bytea NOT NULL,
    member     bytea NOT NULL,
    win        smallint NOT NULL,
    start_ms   bigint NOT NULL,
    end_ms     bigint NOT NULL,
    forget_ms  bigint NOT NULL,
    used       numeric(20)[] NOT NULL,
    held       numeric(20)[] NOT NULL,
    PRIMARY KEY (root, member, win, start_ms)
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS quota_counters_by_end ON quota_counters (forget_ms);

-- What is held is held in the counters that were there, by level the windows: others may be opened later, when a window
-- becomes limited. State 0: held until the end of the lease. 1: given back, 2: settled, and remembered until then.
CREATE TABLE IF NOT EXISTS quota_reservations (
    id           uuid PRIMARY KEY,
    root         bytea NOT NULL,
    members      bytea[] NOT NULL,
    admitted_ms  bigint NOT NULL,
    held         numeric(20)[] NOT NULL,
    held_in      jsonb,
    state        smallint NOT NULL,
    until_ms     bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS quota_reservations_by_root ON quota_reservations (root, state, until_ms);
CREATE INDEX IF NOT EXISTS quota_reservations_by_end ON quota_reservations (state, until_ms);
