-- What is done by a ticket. No answer but the time: there is nothing of this name.

CREATE OR REPLACE FUNCTION quota_settle_1(q jsonb) RETURNS jsonb LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    family bytea := quota_key_1(q->>'root');
    chain bytea[] := quota_keys_1(q->'members');
    taken numeric[] := quota_amounts_1(q->'used');
    is_known boolean;
    server bigint;
    now_ms bigint;
    its record;
BEGIN
    is_known := quota_lock_1(family, q->>'wait', false);
    server := quota_clock_1();
    now_ms := coalesce((q->>'now')::bigint, server);
    IF is_known THEN
        PERFORM quota_reclaim_1(family, now_ms);
        SELECT r.state, r.admitted_ms, r.held_in, CASE WHEN r.state = 0 THEN r.held ELSE '{0,0,0}' END AS held
        INTO its FROM quota_reservations r
        WHERE r.id = (q->>'id')::uuid AND r.root = family AND r.members = chain FOR UPDATE;
        is_known := FOUND;
    END IF;
    IF NOT is_known THEN
        RETURN jsonb_build_object('server', server, 'now', now_ms);
    ELSIF its.state = 2 THEN
        RETURN jsonb_build_object('server', server, 'now', now_ms, 'is_settled', true);
    END IF;
    UPDATE quota_counters c SET used = quota_plus_1(c.used, taken), held = CASE
        WHEN quota_holds_1(its.held_in, c.member, c.win) THEN quota_minus_1(c.held, its.held) ELSE c.held END
    WHERE c.root = family AND c.member = ANY (chain) AND c.start_ms <= its.admitted_ms AND its.admitted_ms < c.end_ms;
    UPDATE quota_reservations SET state = 2, until_ms = now_ms + 86400000 WHERE id = (q->>'id')::uuid;
    RETURN jsonb_build_object('server', server, 'now', now_ms, 'held', its.held);
END
$$;

CREATE OR REPLACE FUNCTION quota_release_1(q jsonb) RETURNS jsonb LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    family bytea := quota_key_1(q->>'root');
    chain bytea[] := quota_keys_1(q->'members');
    is_known boolean;
    server bigint;
    now_ms bigint;
    its record;
BEGIN
    is_known := quota_lock_1(family, q->>'wait', false);
    server := quota_clock_1();
    now_ms := coalesce((q->>'now')::bigint, server);
    IF is_known THEN
        PERFORM quota_reclaim_1(family, now_ms);
        UPDATE quota_reservations r SET state = 1, until_ms = now_ms + 86400000
        WHERE r.id = (q->>'id')::uuid AND r.root = family AND r.members = chain AND r.state = 0
        RETURNING r.admitted_ms, r.held, r.held_in INTO its;
        is_known := FOUND;
    END IF;
    IF is_known THEN
        UPDATE quota_counters c SET held = quota_minus_1(c.held, its.held)
        WHERE c.root = family AND c.member = ANY (chain)
            AND c.start_ms <= its.admitted_ms AND its.admitted_ms < c.end_ms
            AND quota_holds_1(its.held_in, c.member, c.win);
    END IF;
    RETURN jsonb_build_object('server', server, 'now', now_ms, 'is_held', is_known);
END
$$;

CREATE OR REPLACE FUNCTION quota_renew_1(q jsonb) RETURNS jsonb LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    family bytea := quota_key_1(q->>'root');
    chain bytea[] := quota_keys_1(q->'members');
    is_known boolean;
    server bigint;
    now_ms bigint;
BEGIN
    is_known := quota_lock_1(family, q->>'wait', false);
    server := quota_clock_1();
    now_ms := coalesce((q->>'now')::bigint, server);
    IF is_known THEN
        PERFORM quota_reclaim_1(family, now_ms);
        UPDATE quota_reservations r SET until_ms = now_ms + (q->>'lease')::bigint
        WHERE r.id = (q->>'id')::uuid AND r.root = family AND r.members = chain AND r.state = 0;
        is_known := FOUND;
    END IF;
    RETURN jsonb_build_object('server', server, 'now', now_ms, 'is_held', is_known);
END
$$;
