#!lua flags=allow-oom
-- Take a request over from whoever holds it, at once, so that it can be ended; its holder is told to let go.
-- KEYS:   record, leases, signals, allocation hash
-- ARGV:   request id, new fence, lease ms
-- REPLY:  {'unknown'} | {'ended', state, provider/session id or '', entry} |
--         {'seized', request id, body, fence, generation, deadline ms, entry, priority, takes, '', attempts}
-- MEMORY: allowed when full
local known = redis.call('HMGET', KEYS[1], 'final', 'member', 'body', 'generation', 'deadline', 'entry', 'priority', 'takes')
if known[1] then return {'ended', known[1], known[2] or '', known[6] or ''} end
if not known[3] then return {'unknown'} end
-- a hash that is none answers with an error: that the attempts cannot be read must not keep the request alive
local attempts = redis.pcall('HGET', KEYS[4], 'attempts')
if type(attempts) ~= 'string' then attempts = '' end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'fence', ARGV[2])
redis.call('HDEL', KEYS[1], 'clean')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3]), ARGV[1])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', 1000, '*', 'seized', ARGV[1])
redis.call('PEXPIRE', KEYS[3], 3600000)
return {'seized', ARGV[1], known[3], ARGV[2], known[4], known[5], known[6], known[7], known[8], '', attempts}
