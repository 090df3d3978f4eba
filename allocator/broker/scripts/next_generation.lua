#!lua flags=allow-oom
-- Persist the next generation of a request before the call that bears it, and condemn the session ids of this one.
-- KEYS:   record, condemned, condemned notes
-- ARGV:   fence, generation now, delay ms, note, then each member to condemn (provider/session id)
-- REPLY:  the generation to use, 0 where the fence is stale; repeating gives the same reply
-- MEMORY: allowed when full
local known = redis.pcall('HMGET', KEYS[1], 'fence', 'generation', 'final')
if known[1] ~= ARGV[1] or known[3] then return 0 end
local generation = tonumber(ARGV[2])
if tonumber(known[2]) ~= generation then return tonumber(known[2]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'generation', generation + 1)
for each = 5, #ARGV do
  redis.call('ZADD', KEYS[2], 'NX', now + tonumber(ARGV[3]), ARGV[each])
  redis.call('HSETNX', KEYS[3], ARGV[each], now .. ' ' .. ARGV[4])
end
return generation + 1
