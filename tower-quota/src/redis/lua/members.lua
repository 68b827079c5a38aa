-- Those who count together, each what its own ledger says. KEYS: the epoch, the one that is to come, the members: what each
-- has counted for last, `-` or `done <epoch>`, and in which run of the server that was. ARGV: what to do, who does, the
-- coming epoch, the one that is lost, whom the member knows.
local step, member, name = ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local epoch = redis.call('GET', KEYS[1]) or ''
local coming = redis.call('GET', KEYS[2]) or ''

-- A server that was started again, or has taken the place of another, may have older counters: what was counted counts in
-- the run in which it was.
local _, info = pcall(redis.call, 'INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local is_same_run = redis.call('GET', KEYS[4]) == run
if coming ~= '' and not is_same_run then coming = '' end

local function done_by_all()
    local states = redis.call('HVALS', KEYS[3])
    for _, state in ipairs(states) do
        if state ~= 'done ' .. coming then return false end
    end
    return #states > 0
end

if step == 'look' then
    local answer = {'members', now, epoch, coming, is_same_run and 'same' or 'other'}
    for _, text in ipairs(redis.call('HGETALL', KEYS[3])) do answer[#answer + 1] = text end
    return answer
elseif step == 'forget' then
    redis.call('HDEL', KEYS[3], member)
elseif step == 'enter' then
    if epoch ~= name or not is_same_run then return {'other', now, coming} end
    redis.call('HSET', KEYS[3], member, 'done ' .. epoch)
elseif step == 'begin' then
    -- ARGV[4]: the epoch that is lost: other servers of a Cluster may have it still.
    if epoch ~= ARGV[4] then return {'other', now, coming} end
    redis.call('DEL', KEYS[1])
    if coming == '' then
        redis.call('SET', KEYS[2], name)
        redis.call('SET', KEYS[4], run)
        coming = name
    end
    redis.call('HSETNX', KEYS[3], member, '-')
    for i = 5, #ARGV do redis.call('HSETNX', KEYS[3], ARGV[i], '-') end
elseif coming == '' or coming ~= name then
    return {'other', now, coming}
elseif step == 'done' then
    redis.call('HSET', KEYS[3], member, 'done ' .. coming)
elseif step == 'publish' then
    if not done_by_all() then return {'other', now, coming} end
    redis.call('SET', KEYS[1], coming)
    redis.call('DEL', KEYS[2])
end
return {'done', now, coming}
