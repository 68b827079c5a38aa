reclaim()
local r = meant()
if not r or r.state == 'settled' then
    save()
    return {r and 'settled' or 'forgotten', text(now)}
end
local used, overshoot = q.used, q.used
if r.state == 'held' then
    overshoot = sub(used, r.amounts)
    free(r)
end
for _, key in ipairs(cjson.decode(r.accounts)) do
    change(key, r.at, function(counter) counter.used = add(counter.used, used) end)
end
save()
remember(r, 'settled', HOUR)
return {'applied', text(now), show(overshoot)}
