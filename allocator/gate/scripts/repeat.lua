#!lua flags=allow-oom
-- Take one repeat out of an account's budget; the first attempts told of are credited whether or not there is one.
-- KEYS:   the account's limit
-- ARGV:   first attempts, repeats that each brings in, repeats that a second brings in, repeats kept at most
-- REPLY:  1 or 0
-- MEMORY: allowed when full
-- STATE:  hash of repeats (left), repeats_at (when that was)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known = redis.call('HMGET', KEYS[1], 'repeats', 'repeats_at')
local left, most, taken = tonumber(known[1] or ARGV[4]), tonumber(ARGV[4]), 0
local seconds = math.max(0, now - tonumber(known[2] or now)) / 1000000
left = math.min(left + ARGV[1] * ARGV[2] + seconds * ARGV[3], most)
if left >= 1 then left, taken = left - 1, 1 end
redis.call('HSET', KEYS[1], 'repeats', string.format('%.6f', left), 'repeats_at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], 3600000)
return taken
