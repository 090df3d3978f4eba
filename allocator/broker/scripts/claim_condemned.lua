#!lua flags=allow-oom
-- Hand out the condemned that are due, each to one worker for a while.
-- KEYS:   condemned, condemned notes
-- ARGV:   count, hold ms
-- REPLY:  {now ms, {member, note ('<since ms> <reason>')}, ...}
-- MEMORY: allowed when full
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replies = {now}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), member)
  redis.call('HSETNX', KEYS[2], member, now .. ' ?')
  replies[#replies + 1] = {member, redis.call('HGET', KEYS[2], member)}
end
return replies
