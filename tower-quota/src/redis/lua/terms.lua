local fields = redis.call('HMGET', KEYS[2], 'version', 'terms')
return {'terms', text(now), fields[1] or '0', fields[2] or '{}'}
