#!lua flags=allow-oom
-- Tell what a push-back means.
-- KEYS:   the limit
-- ARGV:   'throttled' or 'full', for how long in us
-- REPLY:  OK
-- MEMORY: allowed when full
local time = redis.call('TIME')
local ends = time[1] * 1000000 + time[2] + ARGV[2]
redis.call('HSET', KEYS[1], 'verdict', ARGV[1], 'verdict_until', string.format('%.0f', ends))
redis.call('PEXPIRE', KEYS[1], 3600000)
return redis.status_reply('OK')
