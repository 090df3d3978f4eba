#!lua flags=allow-oom
-- Keep what a pass found at one provider, in place of what the one before found.
-- KEYS:   orphans of the provider
-- ARGV:   keep ms, field, value, ...
-- REPLY:  1
-- MEMORY: allowed when full; the caller bounds the fields
local fields = {}
for each = 2, #ARGV do fields[#fields + 1] = ARGV[each] end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(fields))
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
