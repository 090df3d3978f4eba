#!lua flags=allow-oom
-- Look at a condemned session again after a while, or never again.
-- KEYS:   condemned, condemned notes
-- ARGV:   member (provider/session id), ms until then or '' for never
-- REPLY:  1 where it is condemned, else 0
-- MEMORY: allowed when full
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], 'XX', due, ARGV[1])
return redis.call('ZSCORE', KEYS[1], ARGV[1]) and 1 or 0
