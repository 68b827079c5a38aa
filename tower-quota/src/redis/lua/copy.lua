-- KEYS: a copy of the epoch. ARGV: what it is to say, or nothing.
if ARGV[1] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[1]) end
return {'done', '0'}
