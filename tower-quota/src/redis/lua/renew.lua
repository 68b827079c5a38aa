reclaim()
local r = meant()
save()
if not r or r.state ~= 'held' then return {'not held', text(now)} end
local ends = now + q.lease
redis.call('HSET', q.held .. r.id, 'ends', text(ends))
redis.call('ZADD', LEASES, text(ends), r.id)
keep(q.held .. r.id, q.lease + DAY + HOUR)
keep(LEASES, q.lease + DAY + HOUR)
return {'applied', text(now)}
