#!lua flags=allow-oom
-- The processing of a suspect begins: from here on its take counts.
-- KEYS:   record
-- ARGV:   fence
-- REPLY:  1 where the fence holds, 0 where the request is someone else's, has ended or is gone
-- MEMORY: allowed when full
local known = redis.pcall('HMGET', KEYS[1], 'fence', 'final')
local ours = known[1] == ARGV[1] and not known[2]
if ours then redis.call('HDEL', KEYS[1], 'unbegun') end
return ours and 1 or 0
