#!lua flags=allow-oom
-- Let others take requests over at once; `clean` says that no call of this generation is left unanswered.
-- KEYS:   leases, then a record for each item
-- ARGV:   for each item: request id, fence, clean ('1' or '')
-- REPLY:  1 where the fence holds, else 0
-- MEMORY: allowed when full
local replies = {}
for item = 1, #KEYS - 1 do
  local id, fence, clean = ARGV[item * 3 - 2], ARGV[item * 3 - 1], ARGV[item * 3]
  local known = redis.pcall('HMGET', KEYS[item + 1], 'fence', 'final')
  local ours = known[1] == fence and not known[2]
  if ours then
    redis.call('ZADD', KEYS[1], 0, id)
    if clean ~= '' then redis.call('HSET', KEYS[item + 1], 'clean', '1') end
  end
  replies[item] = ours and 1 or 0
end
return replies
