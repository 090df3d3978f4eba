#!lua flags=allow-oom
-- Mark a session for stopping. The one that an allocated hash names is refused, unless it is to be released.
-- KEYS:   record of its request, condemned, condemned notes
-- ARGV:   session id (ours or the provider's own), provider/session id, note, '1' to release
-- REPLY:  1, or 0 where the session is in play
-- MEMORY: allowed when full
local known = redis.call('HMGET', KEYS[1], 'final', 'session', 'native')
local in_play = known[1] == 'allocated' and (known[2] == ARGV[1] or known[3] == ARGV[1])
if in_play and ARGV[4] ~= '1' then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[2], now, ARGV[2])
redis.call('HSET', KEYS[3], ARGV[2], now .. ' ' .. ARGV[3])
return 1
