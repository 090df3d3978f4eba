#!lua flags=allow-oom
-- A probe got through: the limits are open again. One that was shut anew meanwhile stays shut.
-- KEYS:   the limits
-- ARGV:   none
-- REPLY:  how many were opened
-- MEMORY: allowed when full
local time = redis.call('TIME')
local now, opened = time[1] * 1000000 + time[2], 0
for _, key in ipairs(KEYS) do
  if tonumber(redis.call('HGET', key, 'until') or 0) <= now then
    opened = opened + redis.call('HDEL', key, 'level')
    redis.call('HDEL', key, 'until', 'cause', 'probe')
  end
end
return opened
