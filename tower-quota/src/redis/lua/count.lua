-- What is settled without a reservation, or of one that is forgotten: once.
local known = reservation(q.id)
if known and known.state == 'settled' then return {'settled', text(now)} end
local other = stale()
if other then return other end
for i, level in ipairs(q.levels) do
    if not open(account(KEYS[i + 1]), level, q.at) then return {'time', text(now)} end
end
if known and known.state == 'held' then free(known) end
for i in ipairs(q.levels) do
    change(KEYS[i + 1], q.at, function(counter) counter.used = add(counter.used, q.used) end)
end
save()
remember({id = q.id, state = 'settled', accounts = q.accounts}, 'PX', DAY)
return {'counted', text(now)}
