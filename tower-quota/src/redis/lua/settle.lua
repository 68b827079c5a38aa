reclaim()
local r = meant()
if not r or r.state == 'settled' then
    save()
    return {r and 'settled' or 'forgotten', text(now)}
end
local overshoot = q.used
if r.state == 'held' then
    overshoot = sub(q.used, r.amounts)
    free(r)
end
each_account(r, function(key)
    change(key, r.at, function(counter) counter.used = add(counter.used, q.used) end)
end)
save()
remember({id = r.id, state = 'settled', accounts = r.accounts, epoch = r.epoch}, 'PX', DAY)
return {'applied', text(now), show(overshoot)}
