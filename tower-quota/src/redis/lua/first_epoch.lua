-- KEYS: the epoch or a copy of it, and the one that is to come where it may begin. ARGV: what it is called if it begins now,
-- or nothing. It is read first: a replica can do that.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local epoch = redis.call('GET', KEYS[1])
if not epoch and ARGV[1] ~= '' and not (KEYS[2] and redis.call('GET', KEYS[2])) then
    redis.call('SET', KEYS[1], ARGV[1])
    epoch = ARGV[1]
end
return {'epoch', now, epoch or ''}
