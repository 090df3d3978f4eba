#!lua flags=allow-oom
-- Tell what operators have set, and drop what has lapsed.
-- KEYS:   levers
-- ARGV:   none
-- REPLY:  {name, '<Unix ms of its end, 0: none> <value>', ...}
-- MEMORY: allowed when full: it only frees
local found = redis.call('HGETALL', KEYS[1])
if #found == 0 then
  return found
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = {}
for i = 1, #found, 2 do
  local ends = tonumber(string.match(found[i + 1], '^%d+')) or 0
  if ends > 0 and ends <= now then
    redis.call('HDEL', KEYS[1], found[i])
  else
    kept[#kept + 1] = found[i]
    kept[#kept + 1] = found[i + 1]
  end
end
return kept
