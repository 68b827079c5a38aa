reclaim()
local r = meant()
save()
if not r or r.state ~= 'held' then return {'not held', text(now)} end
r.ends = now + q.lease
remember(r, 'KEEPTTL')
keep(q.held .. r.id, q.lease + DAY + HOUR)
redis.call('ZADD', LEASES, text(r.ends), r.id)
keep(LEASES, q.lease + DAY + HOUR)
return {'applied', text(now)}
