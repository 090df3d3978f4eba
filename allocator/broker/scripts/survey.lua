#!lua flags=allow-oom
-- Count what waits and what is held; nothing is changed.
-- KEYS:   leases, condemned, parked, then the request streams
-- ARGV:   group
-- REPLY:  {now ms, leases of those not parked, condemned, parked, then for each stream: {length, pending, oldest untaken entry id or ''}}
-- MEMORY: allowed when full
local time = redis.call('TIME')
local parked = redis.call('SCARD', KEYS[3])
local replies = {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('ZCARD', KEYS[1]) - parked, redis.call('ZCARD', KEYS[2]), parked}
for item = 4, #KEYS do
  local pending, last = 0, '0-0'
  if redis.call('EXISTS', KEYS[item]) == 1 then
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[item])) do
      local facts = {}
      for each = 1, #group, 2 do facts[group[each]] = group[each + 1] end
      if facts['name'] == ARGV[1] then pending, last = facts['pending'], facts['last-delivered-id'] end
    end
  end
  local oldest = redis.call('XRANGE', KEYS[item], '(' .. last, '+', 'COUNT', 1)
  replies[item + 1] = {redis.call('XLEN', KEYS[item]), pending, oldest[1] and oldest[1][1] or ''}
end
return replies
