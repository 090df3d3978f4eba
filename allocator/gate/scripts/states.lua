#!lua flags=allow-oom
-- How limits stand, as they are kept: permits.lua says what each field means.
-- KEYS:   the limits
-- ARGV:   the fields that are asked for
-- REPLY:  {now us, {value or nil, ...} for each limit}
-- MEMORY: allowed when full: it only reads
local time = redis.call('TIME')
local reply = {time[1] * 1000000 + time[2]}
for _, key in ipairs(KEYS) do reply[#reply + 1] = redis.call('HMGET', key, unpack(ARGV)) end
return reply
