#!lua flags=allow-oom
-- What a push-back means; where nobody knows, the one who asks first finds out.
-- KEYS:   the limit
-- ARGV:   how long it may take to find out in us, how long it is known at most in us: what lies further ahead is over, the clock went back
-- REPLY:  'throttled', 'full', 'ask' or 'asking'
-- MEMORY: allowed when full
-- STATE:  hash of verdict, verdict_until
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known = redis.call('HMGET', KEYS[1], 'verdict', 'verdict_until')
local left = tonumber(known[2] or 0) - now
if left > 0 and left <= tonumber(ARGV[2]) then return known[1] end
redis.call('HSET', KEYS[1], 'verdict', 'asking', 'verdict_until', string.format('%.0f', now + ARGV[1]))
redis.call('PEXPIRE', KEYS[1], 3600000)
return 'ask'
