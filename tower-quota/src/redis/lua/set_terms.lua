if (redis.call('HGET', KEYS[2], 'version') or '0') ~= q.version then return {'other', text(now)} end
redis.call('HSET', KEYS[2], 'version', q.next, 'terms', q.terms)
redis.call('PERSIST', KEYS[2])
return {'set', text(now)}
