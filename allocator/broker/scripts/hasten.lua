#!lua flags=allow-oom
-- Let condemned sessions that were found alive be stopped now: in any rolling minute no more of them than allowed.
-- KEYS:   condemned, stops
-- ARGV:   most in a window, window ms, then each provider/session id
-- REPLY:  how many were made due
-- MEMORY: allowed when full
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - tonumber(ARGV[2]))
local handed = 0
for each = 3, #ARGV do
  local member = ARGV[each]
  if redis.call('ZSCORE', KEYS[1], member) then
    -- one that was handed over within the window takes no second place in it
    local known = redis.call('ZSCORE', KEYS[2], member)
    if known or redis.call('ZCARD', KEYS[2]) < tonumber(ARGV[1]) then
      redis.call('ZADD', KEYS[2], now, member)
      redis.call('ZADD', KEYS[1], 'XX', now, member)
      handed = handed + 1
    end
  end
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return handed
