#!lua flags=allow-oom
-- Say what a waiting request was answered so far.
-- KEYS:   for each item: record, allocation hash
-- ARGV:   for each item: fence, attempts JSON, error code, error message, now ms
-- REPLY:  1 where the fence holds, else 0
-- MEMORY: allowed when full
local replies = {}
for item = 0, #KEYS / 2 - 1 do
  local record, hash, a = KEYS[item * 2 + 1], KEYS[item * 2 + 2], item * 5 + 1
  local known = redis.pcall('HMGET', record, 'fence', 'final')
  local ours = known[1] == ARGV[a] and not known[2]
  if ours then
    redis.pcall('HSET', hash, 'attempts', ARGV[a + 1], 'error_code', ARGV[a + 2], 'error_message', ARGV[a + 3],
      'updated_at', ARGV[a + 4])
  end
  replies[item + 1] = ours and 1 or 0
end
return replies
