-- What is settled without a reservation, or of one that is forgotten: once.
local known = reservation(q.id)
if known and known.state == 'settled' and epoch_of(known) == q.epoch then return {'settled', text(now)} end
local other = stale()
if other then return other end
for i, level in ipairs(q.levels) do
    if not open(account(KEYS[i + 1]), level, q.at) then return {'time', text(now)} end
end
if known and known.state == 'held' then free(known) end
local last = now + DAY
for i in ipairs(q.levels) do
    change(KEYS[i + 1], q.at, function(counter)
        counter.used = add(counter.used, q.used)
        last = math.max(last, forgotten_at(counter))
    end)
end
save()
-- As long as it would count again.
local settled = {id = q.id, state = 'settled', accounts = q.accounts, epoch = q.epoch}
remember(settled, 'PX', text(last - now))
return {'counted', text(now)}
