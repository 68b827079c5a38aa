reclaim()
local r = meant()
local held = r and r.state == 'held'
if held then give_back(r) end
save()
return {held and 'applied' or 'not held', text(now)}
