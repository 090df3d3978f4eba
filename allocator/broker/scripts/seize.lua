#!lua flags=allow-oom
-- Take a request over from whoever holds it, at once, so that it can be ended; its holder is told to let go.
-- KEYS:   record, leases, signals, allocation hash, parked
-- ARGV:   request id, new fence, lease ms, prefix of lots
-- REPLY:  {'unknown'} | {'ended', state, provider/session id or '', entry} |
--         {'seized', request id, body, fence, generation, deadline ms, entry, priority, takes, clean ('1' or ''), attempts,
--         trail}
-- MEMORY: allowed when full
-- SLOT:   lots are named by what the record holds, all of one hash tag
local known = redis.call('HMGET', KEYS[1], 'final', 'member', 'body', 'generation', 'deadline', 'entry', 'priority', 'takes', 'clean',
  'parked', 'trail')
if known[1] then return {'ended', known[1], known[2] or '', known[6] or ''} end
if not known[3] then return {'unknown'} end
-- a hash that is none answers with an error: that the attempts cannot be read must not keep the request alive
local attempts = redis.pcall('HGET', KEYS[4], 'attempts')
if type(attempts) ~= 'string' then attempts = '' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'fence', ARGV[2])
redis.call('HDEL', KEYS[1], 'clean', 'parked')
if known[10] then
  for lot in string.gmatch(known[10], '[^\n]+') do redis.call('ZREM', ARGV[4] .. lot .. ':' .. known[7], ARGV[1]) end
  redis.call('SREM', KEYS[5], ARGV[1])
  redis.pcall('HSET', KEYS[4], 'state', 'allocating', 'updated_at', now)
end
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), ARGV[1])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', 1000, '*', 'seized', ARGV[1])
redis.call('PEXPIRE', KEYS[3], 3600000)
return {'seized', ARGV[1], known[3], ARGV[2], known[4], known[5], known[6], known[7], known[8], known[9] or '', attempts,
  known[11] or ''}
