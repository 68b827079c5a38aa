-- Removes some of what is forgotten, of families that nobody asks about. It never waits for a lock, so it is in nobody's
-- way for long and in no deadlock.
CREATE OR REPLACE FUNCTION quota_sweep_1(q jsonb) RETURNS jsonb LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    server bigint := quota_clock_1();
    now_ms bigint := coalesce((q->>'now')::bigint, server);
    family bytea;
    families bytea[];
    swept bigint := 0;
    removed bigint;
BEGIN
    PERFORM set_config('lock_timeout', q->>'wait', true);
    -- One family in a transaction: nobody waits for those of others.
    FOR family IN
        SELECT DISTINCT d.root FROM (
            SELECT root FROM quota_reservations WHERE state = 0 AND until_ms <= now_ms ORDER BY until_ms LIMIT 20
        ) d
    LOOP
        PERFORM 1 FROM quota_accounts WHERE root = family AND member = '' FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            PERFORM quota_reclaim_1(family, now_ms);
            RETURN jsonb_build_object('server', server, 'swept', 1);
        END IF;
    END LOOP;
    WITH counters AS (
        DELETE FROM quota_counters WHERE (root, member, win, start_ms) IN (
            SELECT root, member, win, start_ms FROM quota_counters WHERE forget_ms <= now_ms
            ORDER BY forget_ms LIMIT 250 FOR UPDATE SKIP LOCKED
        ) RETURNING root
    ), given_back AS (
        DELETE FROM quota_reservations WHERE id IN (
            SELECT id FROM quota_reservations WHERE state = 1 AND until_ms <= now_ms
            ORDER BY until_ms LIMIT 250 FOR UPDATE SKIP LOCKED
        ) RETURNING root
    ), settled AS (
        DELETE FROM quota_reservations WHERE id IN (
            SELECT id FROM quota_reservations WHERE state = 2 AND until_ms <= now_ms
            ORDER BY until_ms LIMIT 250 FOR UPDATE SKIP LOCKED
        ) RETURNING root
    )
    SELECT array_agg(DISTINCT g.root), count(*) INTO families, removed FROM (
        SELECT root FROM counters UNION ALL SELECT root FROM given_back UNION ALL SELECT root FROM settled
    ) g;
    swept := swept + removed;
    -- The row of a family that says nothing any more.
    FOREACH family IN ARRAY coalesce(families, '{}') LOOP
        PERFORM 1 FROM quota_accounts WHERE root = family AND member = '' AND version = 0 FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        DELETE FROM quota_accounts a WHERE a.root = family AND a.member = ''
            AND NOT EXISTS (SELECT 1 FROM quota_counters c WHERE c.root = family)
            AND NOT EXISTS (SELECT 1 FROM quota_reservations r WHERE r.root = family);
    END LOOP;
    RETURN jsonb_build_object('server', server, 'swept', swept);
END
$$;
