-- It was asked over a connection that was lost, and is asked once more.
local known = reservation(q.id)
if known then
    if known.state ~= 'held' or known.accounts ~= q.accounts then return {'time', text(now)} end
    return {'admitted', text(known.at), show(known.amounts)}
end
-- Whoever asked has given up: what would be held would be nobody's.
if q.latest and now > q.latest then return {'time', text(now)} end
local other = stale()
if other then return other end
for i, level in ipairs(q.levels) do
    if not open(account(KEYS[i + 1]), level, now) then return {'time', text(now)} end
end
reclaim()

local MOST = BASE - 1
local ALL = {MOST, MOST, MOST, MOST, MOST, MOST}
local amounts, refusal = q.want, nil
for i, level in ipairs(q.levels) do
    local own = account(KEYS[i + 1])
    local admitted, refused = add(amounts, NONE), nil
    local function at_most(dimension, left)
        if less(left, of(admitted, dimension)) then put(admitted, dimension, left) end
    end
    -- Without a limit there is still the end of the counter: what is held has to be taken off again exactly.
    for _, c in ipairs(own.counters) do
        if c.starts <= now and now < c.ends then
            local room = sub(sub(ALL, c.used), c.held)
            for dimension = 1, 3 do at_most(dimension, of(room, dimension)) end
        end
    end
    for _, limit in ipairs(level.limits) do
        local c = find(own, limit.window, now)
        if limit.most and c then
            local most = limit.most
            for _, grant in ipairs(level.grants) do
                if grant.dimension == limit.dimension and grant.window == limit.window and now < grant.expires then
                    most = add(most, grant.more)
                end
            end
            local used, held = of(c.used, limit.dimension), of(c.held, limit.dimension)
            local left = sub(sub(most, used), held)
            at_most(limit.dimension, left)
            if less(left, of(q.min, limit.dimension)) and (not refused or refused.ends < c.ends) then
                refused = {
                    ends = c.ends,
                    answer = {
                        'denied', text(now), text(math.min(i - 1, 255)), text(limit.dimension), limit.window, text(c.starts),
                        text(c.ends), show(most), show(used), show(held),
                    },
                }
            end
        end
    end
    if not refused then
        amounts = admitted
    elseif not refusal or refusal.ends < refused.ends then
        refusal = refused
    end
end
if refusal then
    -- What is held under leases that have ended refuses nobody: the rest of it is given back when it is asked once more.
    if #redis.call('ZRANGEBYSCORE', LEASES, '-inf', text(now), 'LIMIT', 0, 1) > 0 then
        save()
        return {'time', text(now)}
    end
    -- What is in flight may be settled in a window that counts from now on. Of somebody new there is nothing.
    for i in ipairs(q.levels) do
        if account(KEYS[i + 1]).opened then changed[KEYS[i + 1]] = true end
    end
    save()
    return refusal.answer
end

-- As long as counters have it, and as long after its lease as it may be settled.
local ends = now + q.lease
local last, windows = ends + DAY, {}
for i in ipairs(q.levels) do
    windows[i] = ''
    change(KEYS[i + 1], now, function(counter)
        counter.held = add(counter.held, amounts)
        windows[i] = windows[i] .. ' ' .. counter.window
        last = math.max(last, forgotten_at(counter))
    end)
end
save()
local r = {
    id = q.id, state = 'held', at = now, ends = ends, amounts = amounts, accounts = q.accounts, windows = windows,
}
remember(r, 'PX', text(last - now + HOUR))
redis.call('ZADD', LEASES, text(ends), q.id)
keep(LEASES, last - now + HOUR)
return {'admitted', text(now), show(amounts)}
