#!lua flags=allow-oom
-- Say which lots a worker serves, and hear of those that hold somebody and that no worker has served for a while; the
-- names of empty ones are dropped as they are met.
-- KEYS:   names of lots
-- ARGV:   prefix of lots, for how many ms nobody has served them, most to tell, then each lot that is served
-- REPLY:  the lots
-- MEMORY: allowed when full
-- SLOT:   lots are named by what the set of names holds, all of one hash tag
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for each = 4, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now, ARGV[each]) end
local lots = {}
for _, lot in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]), 'LIMIT', 0, ARGV[3])) do
  local lines = ARGV[1] .. lot .. ':'
  if redis.call('EXISTS', lines .. 'high', lines .. 'normal', lines .. 'low') > 0 then
    lots[#lots + 1] = lot
  else
    redis.call('ZREM', KEYS[1], lot)
  end
end
return lots
