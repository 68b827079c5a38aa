-- What is asked and said about a subject.

CREATE OR REPLACE FUNCTION quota_standings_1(q jsonb) RETURNS jsonb LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    family bytea := quota_key_1(q->>'root');
    whose bytea := quota_key_1(q->'members'->>0);
    server bigint;
    now_ms bigint;
    stale jsonb;
    counters jsonb;
BEGIN
    IF quota_lock_1(family, q->>'wait', false) THEN
        now_ms := coalesce((q->>'now')::bigint, quota_clock_1());
        PERFORM quota_reclaim_1(family, now_ms);
        -- What is given back here would be given back again.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    server := quota_clock_1();
    now_ms := coalesce(now_ms, (q->>'now')::bigint, server);
    stale := quota_stale_1(family, q->'levels');
    SELECT jsonb_agg(jsonb_build_object(
        'window', c.win, 'start', c.start_ms, 'end', c.end_ms, 'used', c.used, 'held', c.held))
    INTO counters FROM quota_counters c
    WHERE c.root = family AND c.member = whose AND c.start_ms <= now_ms AND now_ms < c.end_ms;
    RETURN jsonb_build_object('server', server, 'now', now_ms, 'terms', stale, 'counters', counters);
END
$$;

-- Counts what is settled without a reservation, or of one that is forgotten: once.
CREATE OR REPLACE FUNCTION quota_count_1(q jsonb) RETURNS jsonb LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    family bytea := quota_key_1(q->>'root');
    chain bytea[] := quota_keys_1(q->'members');
    at_ms bigint := (q->>'at')::bigint;
    server bigint;
    now_ms bigint;
    stale jsonb;
    level record;
    its record;
    last_ms bigint;
BEGIN
    PERFORM quota_lock_1(family, q->>'wait', true);
    server := quota_clock_1();
    now_ms := coalesce((q->>'now')::bigint, server);
    SELECT r.state, r.admitted_ms, r.held, r.held_in INTO its FROM quota_reservations r
    WHERE r.id = (q->>'id')::uuid AND r.root = family AND r.members = chain FOR UPDATE;
    IF its.state = 2 THEN
        RETURN jsonb_build_object('server', server, 'now', now_ms, 'is_settled', true);
    END IF;
    stale := quota_stale_1(family, q->'levels');
    IF stale IS NOT NULL THEN
        RETURN jsonb_build_object('server', server, 'now', now_ms, 'terms', stale);
    END IF;
    FOR level IN SELECT value AS its FROM jsonb_array_elements(q->'levels') LOOP
        -- The moment is in the middle of the periods, whatever time it is here.
        PERFORM quota_open_1(family, quota_key_1(level.its->>'member'), level.its->'periods', at_ms, now_ms);
    END LOOP;
    UPDATE quota_counters c SET used = quota_plus_1(c.used, quota_amounts_1(q->'used'))
    WHERE c.root = family AND c.member = ANY (chain) AND c.start_ms <= at_ms AND at_ms < c.end_ms;
    IF its.state = 0 THEN
        UPDATE quota_counters c SET held = quota_minus_1(c.held, its.held)
        WHERE c.root = family AND c.member = ANY (chain)
            AND c.start_ms <= its.admitted_ms AND its.admitted_ms < c.end_ms
            AND quota_holds_1(its.held_in, c.member, c.win);
    END IF;
    -- As long as it would count again.
    SELECT greatest(now_ms + 86400000, max(c.forget_ms)) INTO last_ms FROM quota_counters c
    WHERE c.root = family AND c.member = ANY (chain) AND c.start_ms <= at_ms AND at_ms < c.end_ms;
    INSERT INTO quota_reservations AS r (id, root, members, admitted_ms, held, state, until_ms)
    VALUES ((q->>'id')::uuid, family, chain, at_ms, '{0,0,0}', 2, last_ms)
    ON CONFLICT (id) DO UPDATE SET state = 2, until_ms = excluded.until_ms
        WHERE r.root = family AND r.members = chain;
    RETURN jsonb_build_object('server', server, 'now', now_ms);
END
$$;

CREATE OR REPLACE FUNCTION quota_terms_1(q jsonb) RETURNS jsonb LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    server bigint := quota_clock_1();
    its record;
BEGIN
    SELECT a.version, a.terms INTO its FROM quota_accounts a
    WHERE a.root = quota_key_1(q->>'root') AND a.member = quota_key_1(q->>'member');
    RETURN jsonb_build_object('server', server, 'version', coalesce(its.version, 0), 'text', its.terms);
END
$$;

CREATE OR REPLACE FUNCTION quota_set_terms_1(q jsonb) RETURNS jsonb LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    family bytea := quota_key_1(q->>'root');
    whose bytea := quota_key_1(q->>'member');
BEGIN
    PERFORM quota_lock_1(family, q->>'wait', true);
    INSERT INTO quota_accounts (root, member) VALUES (family, whose) ON CONFLICT DO NOTHING;
    UPDATE quota_accounts a SET version = a.version + 1, terms = q->>'terms'
    WHERE a.root = family AND a.member = whose AND a.version = (q->>'version')::numeric;
    RETURN jsonb_build_object('server', quota_clock_1(), 'is_set', FOUND);
END
$$;
