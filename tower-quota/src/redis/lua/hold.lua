-- Carries over what is held into these counters, from those that were lost.
local known = reservation(q.id)
if known and epoch_of(known) == q.epoch then return {'held', text(now)} end
local other = stale()
if other then return other end
for i, level in ipairs(q.levels) do
    if not open(account(KEYS[i + 1]), level, q.at) then return {'time', text(now)} end
end
local ends = now + q.lease
local last, windows = ends + DAY, {}
for i in ipairs(q.levels) do
    windows[i] = ''
    change(KEYS[i + 1], q.at, function(counter)
        counter.held = add(counter.held, q.used)
        windows[i] = windows[i] .. ' ' .. counter.window
        last = math.max(last, forgotten_at(counter))
    end)
end
save()
local r = {
    id = q.id, state = 'held', at = q.at, ends = ends, amounts = q.used, accounts = q.accounts, windows = windows,
    epoch = q.epoch,
}
remember(r, 'PX', text(last - now + HOUR))
redis.call('ZADD', LEASES, text(ends), q.id)
keep(LEASES, last - now + HOUR)
return {'held', text(now)}
