#!lua flags=allow-oom
-- A call got through: the limits are open again and nothing is held against them. One that was shut anew meanwhile, because the host said so, stays shut.
-- KEYS:   the limits
-- ARGV:   us for which it is shut at most: what lies further ahead is over, the clock went back
-- REPLY:  how many were opened
-- MEMORY: allowed when full: it only frees
local time = redis.call('TIME')
local now, opened = time[1] * 1000000 + time[2], 0
for _, key in ipairs(KEYS) do
  local known = redis.call('HMGET', key, 'until', 'doubts')
  if known[1] or known[2] then
    redis.call('HDEL', key, 'doubts', 'aside', 'asides')
    local left = tonumber(known[1] or 0) - now
    if left <= 0 or left > tonumber(ARGV[1]) then
      redis.call('HDEL', key, 'until', 'cause', 'level', 'probe')
      opened = opened + 1
    end
  end
end
return opened
