#!lua flags=allow-oom
-- Lower a limit's rate; calls that were begun before the last lowering came too late to count. The rate climbs back as permits.lua reckons it.
-- KEYS:   the limit
-- ARGV:   its whole rate, how long ago the call was begun in us, share of its rate that it gives up, climb us
-- REPLY:  its rate from now on in thousandths
-- MEMORY: allowed when full
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local whole, drop = tonumber(ARGV[1]), tonumber(ARGV[3])
local known = redis.call('HMGET', KEYS[1], 'ceiling', 'slowed')
local rate, slowed = whole, tonumber(known[2] or 0)
if known[1] and slowed <= now then
  rate = math.min(whole, math.max(known[1] * (1 - drop * (1 - (now - slowed) / ARGV[4]) ^ 3), 1))
end
if slowed > now or now - ARGV[2] >= slowed then
  redis.call('HSET', KEYS[1], 'ceiling', string.format('%.6f', rate), 'slowed', string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], 3600000)
  rate = math.max(rate * (1 - drop), math.min(whole, 1))
end
return math.floor(rate * 1000 + 0.5)
