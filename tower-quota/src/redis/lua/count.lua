-- What was used without a reservation.
local other = stale()
if other then return other end
for i, level in ipairs(q.levels) do
    if not open(account(KEYS[i + 1]), level, q.at) then return {'time', text(now)} end
end
for i in ipairs(q.levels) do
    change(KEYS[i + 1], q.at, function(counter) counter.used = add(counter.used, q.used) end)
end
save()
return {'counted', text(now)}
