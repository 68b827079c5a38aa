-- What the operations have in common.

-- The key of a name in hexadecimal; of no name it is the root's own among its members. An index has no room for long
-- ones.
CREATE OR REPLACE FUNCTION quota_key_1(name text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN name IS NULL THEN ''::bytea
        WHEN length(name) <= 512 THEN '\x6e'::bytea || decode(name, 'hex')
        ELSE '\x68'::bytea || sha256(decode(name, 'hex'))
    END
$$;

-- The keys of levels, the innermost first.
CREATE OR REPLACE FUNCTION quota_keys_1(names jsonb) RETURNS bytea[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(quota_key_1(name) ORDER BY n) FROM jsonb_array_elements_text(names) WITH ORDINALITY AS l (name, n)
$$;

CREATE OR REPLACE FUNCTION quota_clock_1() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;

CREATE OR REPLACE FUNCTION quota_plus_1(a numeric[], b numeric[]) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY[
        least(a[1] + b[1], 18446744073709551615),
        least(a[2] + b[2], 18446744073709551615),
        least(a[3] + b[3], 18446744073709551615)
    ]
$$;

CREATE OR REPLACE FUNCTION quota_minus_1(a numeric[], b numeric[]) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY[greatest(a[1] - b[1], 0), greatest(a[2] - b[2], 0), greatest(a[3] - b[3], 0)]
$$;

CREATE OR REPLACE FUNCTION quota_amounts_1(amounts jsonb) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY[(amounts->>0)::numeric, (amounts->>1)::numeric, (amounts->>2)::numeric]
$$;

-- Whether a reservation holds something in that counter.
CREATE OR REPLACE FUNCTION quota_holds_1(held_in jsonb, member bytea, win smallint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(held_in->encode(member, 'hex') @> to_jsonb(win), false)
$$;

-- Waits for the family, no longer than its caller. One that is not there is made, if it is to be.
CREATE OR REPLACE FUNCTION quota_lock_1(family bytea, wait text, make boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', wait, true);
    -- What was answered is not to be undone by a crash, whatever the database's default is.
    PERFORM set_config('synchronous_commit', 'on', true);
    LOOP
        PERFORM 1 FROM quota_accounts WHERE root = family AND member = '' FOR UPDATE;
        IF FOUND THEN
            RETURN true;
        ELSIF NOT make THEN
            RETURN false;
        END IF;
        INSERT INTO quota_accounts (root, member) VALUES (family, '') ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

-- The terms of those levels that the client knows in another version.
CREATE OR REPLACE FUNCTION quota_stale_1(family bytea, levels jsonb) RETURNS jsonb LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_agg(jsonb_build_object('level', l.n - 1, 'version', coalesce(a.version, 0), 'terms', a.terms))
    FROM jsonb_array_elements(levels) WITH ORDINALITY AS l (level, n)
    LEFT JOIN quota_accounts a ON a.root = family AND a.member = quota_key_1(l.level->>'member')
    WHERE coalesce(a.version, 0) <> (l.level->>'version')::numeric
$$;

-- Gives back what is held under leases that have ended: some, so that nobody waits long. Those who ask next do the rest.
CREATE OR REPLACE FUNCTION quota_reclaim_1(family bytea, now_ms bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM quota_reservations WHERE root = family AND state = 0 AND until_ms <= now_ms LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH dead AS MATERIALIZED (
        SELECT id, members, admitted_ms, held, held_in FROM quota_reservations
        WHERE root = family AND state = 0 AND until_ms <= now_ms ORDER BY until_ms LIMIT 250
    ), over AS (
        UPDATE quota_reservations SET state = 1, until_ms = now_ms + 86400000 WHERE id IN (SELECT id FROM dead)
    ), freed AS (
        SELECT c.member, c.win, c.start_ms, ARRAY[sum(d.held[1]), sum(d.held[2]), sum(d.held[3])] AS amounts
        FROM dead d JOIN quota_counters c
            ON c.root = family AND c.member = ANY (d.members)
            AND c.start_ms <= d.admitted_ms AND d.admitted_ms < c.end_ms AND quota_holds_1(d.held_in, c.member, c.win)
        GROUP BY c.member, c.win, c.start_ms
    )
    UPDATE quota_counters c SET held = quota_minus_1(c.held, f.amounts) FROM freed f
    WHERE c.root = family AND c.member = f.member AND c.win = f.win AND c.start_ms = f.start_ms;
END
$$;

-- Makes sure that every window that counts has a counter for a moment, unless its period is forgotten by now. `periods`
-- are arrays of a window and four bounds of three periods; false: the moment is in none of them. A period that is there
-- stays as it is: where a zone was changed, the one that follows begins at its end.
CREATE OR REPLACE FUNCTION quota_open_1(family bytea, whose bytea, periods jsonb, at_ms bigint, now_ms bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    period jsonb;
    kind smallint;
    bound int;
    starts bigint;
    ends bigint;
    before_ms bigint;
    after_ms bigint;
    memory bigint;
BEGIN
    FOR period IN SELECT value FROM jsonb_array_elements(periods) LOOP
        kind := (period->>0)::smallint;
        PERFORM 1 FROM quota_counters
        WHERE root = family AND member = whose AND win = kind AND start_ms <= at_ms AND at_ms < end_ms;
        CONTINUE WHEN FOUND;
        bound := CASE WHEN at_ms < (period->>2)::bigint THEN 1 WHEN at_ms < (period->>3)::bigint THEN 2 ELSE 3 END;
        starts := (period->>bound)::bigint;
        ends := (period->>(bound + 1))::bigint;
        IF at_ms < starts OR at_ms >= ends THEN
            RETURN false;
        END IF;
        DELETE FROM quota_counters WHERE root = family AND member = whose AND forget_ms <= now_ms;
        SELECT max(end_ms) FILTER (WHERE end_ms <= at_ms), min(start_ms) FILTER (WHERE start_ms > at_ms)
        INTO before_ms, after_ms FROM quota_counters
        WHERE root = family AND member = whose AND win = kind;
        starts := greatest(starts, before_ms);
        ends := least(ends, after_ms);
        memory := CASE WHEN kind < 2 THEN 60000 ELSE 86400000 END;
        IF ends + memory > now_ms THEN
            INSERT INTO quota_counters (root, member, win, start_ms, end_ms, forget_ms, used, held)
            VALUES (family, whose, kind, starts, ends, ends + memory, '{0,0,0}', '{0,0,0}');
        END IF;
    END LOOP;
    RETURN true;
END
$$;
