#!lua flags=allow-oom
-- Say what is under way and what is condemned at this moment; nothing is changed.
-- KEYS:   meta, history, leases, condemned
-- ARGV:   none
-- REPLY:  {now ms, deployment or '', ms of the last loss (0: never), {request id, ...}, {provider/session id, ...}}
-- MEMORY: allowed when full
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return {now, redis.call('HGET', KEYS[1], 'deployment') or '', tonumber(redis.call('HGET', KEYS[2], 'since') or 0),
  redis.call('ZRANGE', KEYS[3], 0, -1), redis.call('ZRANGE', KEYS[4], 0, -1)}
