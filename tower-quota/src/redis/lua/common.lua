-- What every decision begins with. KEYS: the leases of the family, its accounts that are meant from the inside out, the
-- reservation if one is meant, and last, where one server has everything, the epoch. Other accounts and reservations
-- that are reached are of the same family and so of the same slot.
local q = cjson.decode(ARGV[1])
local LEASES = KEYS[1]
local MINUTE, HOUR, DAY = 60000, 3600000, 86400000

local now = q.now
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local function text(number) return string.format('%.0f', number) end

if q.checks then
    local epoch = redis.call('GET', KEYS[#KEYS]) or ''
    if string.sub(epoch, 1, 8) ~= q.epoch then return {'lost', text(now), epoch} end
end

-- === amounts ===

-- Numbers here are exact to 2^53 only, so an amount is two of them, each below 2^32; amounts are several such pairs. In
-- answers they are 16 hexadecimal digits each, and what is kept is packed.
local BASE = 4294967296
local NONE = {0, 0, 0, 0, 0, 0}

local function show(amounts) return string.format(string.rep('%08x', #amounts), unpack(amounts)) end

-- Sums, which stop at the greatest amount.
local function add(a, b)
    local sums = {}
    for i = 1, #a, 2 do
        local high, low = a[i] + b[i], a[i + 1] + b[i + 1]
        if low >= BASE then high, low = high + 1, low - BASE end
        if high >= BASE then high, low = BASE - 1, BASE - 1 end
        sums[i], sums[i + 1] = high, low
    end
    return sums
end

-- Differences, which stop at zero.
local function sub(a, b)
    local rests = {}
    for i = 1, #a, 2 do
        local high, low = a[i] - b[i], a[i + 1] - b[i + 1]
        if low < 0 then high, low = high - 1, low + BASE end
        if high < 0 then high, low = 0, 0 end
        rests[i], rests[i + 1] = high, low
    end
    return rests
end

local function of(amounts, dimension) return {amounts[dimension * 2 - 1], amounts[dimension * 2]} end

local function put(amounts, dimension, amount)
    amounts[dimension * 2 - 1], amounts[dimension * 2] = amount[1], amount[2]
end

local function less(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end

-- === accounts ===

local accounts, changed = {}, {}

-- Counters of another epoch count no more. Each epoch has its own, since some may go by the last one for a while where
-- others count for the next.
local COUNTERS = 'counters:' .. q.epoch

local function account(key)
    local known = accounts[key]
    if known then return known end
    local fields = redis.call('HMGET', key, 'version', COUNTERS)
    local found = {version = fields[1] or '0', counters = {}}
    if fields[2] then found.counters = cmsgpack.unpack(fields[2]) end
    accounts[key] = found
    return found
end

-- Until when a counter is remembered: a settlement may be due, or the clock be set back.
local function forgotten_at(counter)
    if counter.window == 'minute' or counter.window == 'hour' then return counter.ends + MINUTE end
    return counter.ends + DAY
end

local function save()
    for key in pairs(changed) do
        local counters, last = accounts[key].counters, 0
        for _, counter in ipairs(counters) do last = math.max(last, forgotten_at(counter)) end
        if #counters > 0 then
            redis.call('HSET', key, COUNTERS, cmsgpack.pack(counters))
            if redis.call('HLEN', key) > 6 then
                for _, field in ipairs(redis.call('HKEYS', key)) do
                    if string.sub(field, 1, 9) == 'counters:' and field ~= COUNTERS then
                        redis.call('HDEL', key, field)
                    end
                end
            end
            -- Terms stay. Not until a moment but for a time: who is given another clock has another present.
            if accounts[key].version == '0' then redis.call('PEXPIRE', key, text(math.max(last - now, MINUTE))) end
        end
    end
end

local function find(found, window, at)
    for _, counter in ipairs(found.counters) do
        if counter.window == window and counter.starts <= at and at < counter.ends then return counter end
    end
end

-- Every counter of the account of which the period holds that moment.
local function change(key, at, work)
    for _, counter in ipairs(account(key).counters) do
        if counter.starts <= at and at < counter.ends then work(counter) end
    end
    changed[key] = true
end

-- Makes sure of a counter for each window that counts. A period that is there stays as it is; a new one has what others
-- leave of it. False if the moment is in none of the periods that the client has foreseen.
local function open(found, level, at)
    local known = #found.counters > 0
    for _, periods in ipairs(level.periods) do
        local window, bounds = periods.window, periods.bounds
        if not find(found, window, at) then
            local starts, ends
            for i = 1, 3 do
                if bounds[i] <= at and at < bounds[i + 1] then starts, ends = bounds[i], bounds[i + 1] end
            end
            if not starts then return false end
            local remembered = {}
            for _, c in ipairs(found.counters) do
                if now < forgotten_at(c) then
                    remembered[#remembered + 1] = c
                    if c.window == window and c.ends <= at then starts = math.max(starts, c.ends) end
                    if c.window == window and at < c.starts then ends = math.min(ends, c.starts) end
                end
            end
            found.counters = remembered
            found.opened = known
            local counter = {window = window, starts = starts, ends = ends, used = NONE, held = NONE}
            if now < forgotten_at(counter) then remembered[#remembered + 1] = counter end
        end
    end
    return true
end

-- The answer if the client has other terms of somebody than there are: those there are.
local function stale()
    local answer = {'stale', text(now)}
    for i, level in ipairs(q.levels) do
        local key = KEYS[i + 1]
        local version = account(key).version
        if version ~= level.version then
            answer[#answer + 1] = text(i - 1)
            answer[#answer + 1] = version
            answer[#answer + 1] = redis.call('HGET', key, 'terms') or '{}'
        end
    end
    if #answer > 2 then return answer end
end

-- === reservations ===

local function reservation(id)
    local packed = redis.call('GET', q.held .. id)
    if not packed then return nil end
    local r = cmsgpack.unpack(packed)
    r.id = id
    return r
end

local function remember(r, ...)
    local known = {
        state = r.state, at = r.at, ends = r.ends, amounts = r.amounts, accounts = r.accounts, windows = r.windows,
        epoch = r.epoch,
    }
    redis.call('SET', q.held .. r.id, cmsgpack.pack(known), ...)
end

-- Of which epoch's counters a reservation is: of those it was made in, unless it was carried over into others.
local function epoch_of(r) return r.epoch or string.sub(r.id, 9, 16) end

local function each_account(r, work)
    for i, name in ipairs(cjson.decode(r.accounts)) do work(q.family .. name, i) end
end

-- Takes off what is held, of the counters that it is held in: others may have been opened since, when a window became
-- limited. Accounts do not have what was held in another epoch.
local function free(r)
    -- Read first: where a slot of a Cluster is on its way, what is not there yet is an error, and nothing is written.
    if epoch_of(r) == q.epoch then
        each_account(r, function(key, i)
            change(key, r.at, function(counter)
                if string.find(r.windows[i] or '', counter.window, 1, true) then
                    counter.held = sub(counter.held, r.amounts)
                end
            end)
        end)
    end
    redis.call('ZREM', LEASES, r.id)
end

local function give_back(r)
    free(r)
    r.state, r.ends, r.amounts, r.windows = 'given back', nil, nil, nil
    remember(r, 'PX', DAY)
end

-- Gives back what is held under leases that have ended. So much and no more: the rest is the next one's.
local function reclaim()
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', text(now), 'LIMIT', 0, 100)) do
        local r = reservation(id)
        if r and r.state == 'held' then give_back(r) else redis.call('ZREM', LEASES, id) end
    end
end

-- The reservation that is meant, under the name that it was made for and no other.
local function meant()
    -- What was held in another epoch is not in the counters of this one.
    local r = reservation(q.id)
    if not r or epoch_of(r) ~= q.epoch or r.accounts ~= q.accounts then return nil end
    if r.state == 'held' and r.ends <= now then give_back(r) end
    return r
end

-- Keeps a key for so long, if it is not kept for longer.
local function keep(key, length)
    if redis.call('PTTL', key) < length then redis.call('PEXPIRE', key, text(length)) end
end
