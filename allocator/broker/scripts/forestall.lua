#!lua flags=allow-oom
-- Keep an id that nobody has asked for as cancelled, so that a cancellation that overtakes its request still wins.
-- KEYS:   record, allocation hash, results
-- ARGV:   entry id of the cancellation, keep ms, oldest results id kept, request id, event, field, value, ... (first the state)
-- REPLY:  1, or 0 where the id is known by now
-- MEMORY: allowed when full
local known = redis.call('HMGET', KEYS[1], 'final', 'body')
if known[1] or known[2] then return 0 end
local fields = {}
for each = 6, #ARGV do fields[#fields + 1] = ARGV[each] end
-- what says neither how it ended nor what was asked says nothing
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'digest', '*', 'entry', ARGV[1], 'final', fields[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(fields))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('XADD', KEYS[3], 'MINID', '~', ARGV[3], '*', 'request_id', ARGV[4], 'state', fields[2], 'event', ARGV[5])
return 1
