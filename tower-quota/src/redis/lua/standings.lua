local other = stale()
if other then return other end
reclaim()
save()
-- Who only looks opens no counter: this one is not saved.
local own = account(KEYS[2])
if not open(own, q.levels[1], now) then return {'time', text(now)} end
local answer = {'standings', text(now)}
for _, c in ipairs(own.counters) do
    if c.starts <= now and now < c.ends then
        for _, field in ipairs({c.window, text(c.starts), text(c.ends), show(c.used), show(c.held)}) do
            answer[#answer + 1] = field
        end
    end
end
return answer
