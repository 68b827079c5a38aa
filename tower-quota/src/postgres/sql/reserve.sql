-- Decides on a charge. The answer is one of: held, denied, terms (the client's are others; nothing is decided), or
-- neither (it is another time than the client thinks, or nobody waits for the decision any more).
CREATE OR REPLACE FUNCTION quota_reserve_1(q jsonb) RETURNS jsonb LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    family bytea := quota_key_1(q->>'root');
    chain bytea[] := quota_keys_1(q->'members');
    least_of numeric[] := quota_amounts_1(q->'min');
    amounts numeric[] := quota_amounts_1(q->'want');
    server bigint;
    now_ms bigint;
    stale jsonb;
    level record;
    found_one record;
    remains numeric;
    denied jsonb;
    denied_until bigint;
    windows jsonb;
BEGIN
    PERFORM quota_lock_1(family, q->>'wait', true);
    server := quota_clock_1();
    now_ms := coalesce((q->>'now')::bigint, server);
    IF server > (q->>'until')::bigint THEN
        RETURN jsonb_build_object('server', server, 'now', now_ms);
    END IF;
    IF (q->>'again')::boolean THEN
        -- The client lost its connection and does not know whether it was told.
        SELECT r.held, r.admitted_ms INTO found_one FROM quota_reservations r
        WHERE r.id = (q->>'id')::uuid AND r.root = family AND r.members = chain AND r.state = 0;
        IF FOUND THEN
            RETURN jsonb_build_object('server', server, 'now', found_one.admitted_ms, 'held', found_one.held);
        END IF;
    END IF;
    stale := quota_stale_1(family, q->'levels');
    IF stale IS NOT NULL THEN
        RETURN jsonb_build_object('server', server, 'now', now_ms, 'terms', stale);
    END IF;
    PERFORM quota_reclaim_1(family, now_ms);
    FOR level IN SELECT value AS its FROM jsonb_array_elements(q->'levels') LOOP
        IF NOT quota_open_1(family, quota_key_1(level.its->>'member'), level.its->'periods', now_ms, now_ms) THEN
            RETURN jsonb_build_object('server', server, 'now', now_ms);
        END IF;
    END LOOP;

    -- Without a limit there is still the end of the counter: what is held has to be taken off again exactly.
    SELECT ARRAY[
        greatest(0, least(amounts[1], min(18446744073709551615 - c.used[1] - c.held[1]))),
        greatest(0, least(amounts[2], min(18446744073709551615 - c.used[2] - c.held[2]))),
        greatest(0, least(amounts[3], min(18446744073709551615 - c.used[3] - c.held[3])))
    ] INTO amounts FROM quota_counters c
    WHERE c.root = family AND c.member = ANY (chain) AND c.start_ms <= now_ms AND now_ms < c.end_ms;
    FOR found_one IN
        SELECT l.n - 1 AS level, (f.its->>0)::int AS dimension, c.win, c.start_ms, c.end_ms, c.used, c.held,
            least(18446744073709551615, (f.its->>2)::numeric + coalesce((
                SELECT sum((g.its->>2)::numeric) FROM jsonb_array_elements(l.its->'grants') AS g (its)
                WHERE g.its->>0 = f.its->>0 AND g.its->>1 = f.its->>1 AND now_ms < (g.its->>3)::bigint
            ), 0)) AS allowed
        FROM jsonb_array_elements(q->'levels') WITH ORDINALITY AS l (its, n)
        CROSS JOIN LATERAL jsonb_array_elements(l.its->'limits') WITH ORDINALITY AS f (its, n)
        JOIN quota_counters c
            ON c.root = family AND c.member = quota_key_1(l.its->>'member') AND c.win = (f.its->>1)::smallint
            AND c.start_ms <= now_ms AND now_ms < c.end_ms
        ORDER BY l.n, f.n
    LOOP
        remains := greatest(0,
            found_one.allowed - found_one.used[found_one.dimension] - found_one.held[found_one.dimension]);
        amounts[found_one.dimension] := least(amounts[found_one.dimension], remains);
        IF remains < least_of[found_one.dimension]
            AND (denied_until IS NULL OR denied_until < found_one.end_ms)
        THEN
            denied_until := found_one.end_ms;
            denied := jsonb_build_object(
                'level', found_one.level, 'dimension', found_one.dimension, 'window', found_one.win,
                'start', found_one.start_ms, 'end', found_one.end_ms, 'limit', found_one.allowed,
                'used', found_one.used[found_one.dimension], 'held', found_one.held[found_one.dimension]);
        END IF;
    END LOOP;
    IF denied IS NOT NULL THEN
        -- What is held under leases that have ended refuses nobody: the rest of it is given back when it is asked once more.
        PERFORM 1 FROM quota_reservations WHERE root = family AND state = 0 AND until_ms <= now_ms LIMIT 1;
        IF FOUND THEN
            RETURN jsonb_build_object('server', server, 'now', now_ms);
        END IF;
        -- Nothing that was promised is written: nobody waits for the disk, least of all those who are next.
        PERFORM set_config('synchronous_commit', 'off', true);
        RETURN jsonb_build_object('server', server, 'now', now_ms, 'denied', denied);
    END IF;

    WITH holding AS (
        UPDATE quota_counters c SET held = quota_plus_1(c.held, amounts)
        WHERE c.root = family AND c.member = ANY (chain) AND c.start_ms <= now_ms AND now_ms < c.end_ms
        RETURNING c.member, c.win
    ) SELECT jsonb_object_agg(m.name, m.windows) INTO windows FROM (
        SELECT encode(h.member, 'hex') AS name, jsonb_agg(h.win) AS windows FROM holding h GROUP BY h.member
    ) m;
    INSERT INTO quota_reservations (id, root, members, admitted_ms, held, held_in, state, until_ms)
    VALUES ((q->>'id')::uuid, family, chain, now_ms, amounts, windows, 0, now_ms + (q->>'lease')::bigint);
    DELETE FROM quota_reservations WHERE id IN (
        SELECT id FROM quota_reservations WHERE root = family AND state IN (1, 2) AND until_ms <= now_ms
        LIMIT 20 FOR UPDATE SKIP LOCKED
    );
    RETURN jsonb_build_object('server', server, 'now', now_ms, 'held', amounts);
END
$$;
