#!lua flags=allow-oom
-- Extend the leases of requests that are still ours.
-- KEYS:   leases, then a record for each item
-- ARGV:   lease ms, then for each item: request id, fence
-- REPLY:  1 where the fence holds, 0 where the request is someone else's, has ended or is gone
-- MEMORY: allowed when full
-- A record that is no hash answers HMGET with an error, whose fields are nil: nobody's, and no harm to its neighbours.
local time = redis.call('TIME')
local until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local replies = {}
for item = 1, #KEYS - 1 do
  local id, fence = ARGV[item * 2], ARGV[item * 2 + 1]
  local known = redis.pcall('HMGET', KEYS[item + 1], 'fence', 'final')
  local ours = known[1] == fence and not known[2]
  if ours then redis.call('ZADD', KEYS[1], until_ms, id) end
  replies[item] = ours and 1 or 0
end
return replies
