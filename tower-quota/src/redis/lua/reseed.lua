-- KEYS: the epoch or a copy of it, who reseeds. ARGV: what to do, the coming epoch, for how long it is claimed.
if ARGV[1] == 'overwrite' then
    redis.call('SET', KEYS[1], ARGV[2])
    return {'done', '0'}
end
local claimed = redis.call('GET', KEYS[2])
if claimed and claimed ~= ARGV[2] or not claimed and ARGV[1] ~= 'claim' then return {'other', '0'} end
if ARGV[1] == 'publish' then
    redis.call('SET', KEYS[1], ARGV[2])
    redis.call('DEL', KEYS[2])
elseif ARGV[1] == 'give up' then
    redis.call('DEL', KEYS[2])
else
    redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
end
return {'done', '0'}
