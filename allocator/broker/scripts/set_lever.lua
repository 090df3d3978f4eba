#!lua flags=allow-oom
-- Set one lever, for a time by this server's clock or until it is undone.
-- KEYS:   levers
-- ARGV:   name, ms for which it stands or '', value
-- REPLY:  1
-- MEMORY: allowed when full: a pause is most wanted then, and a lever is a few bytes
local ends = 0
if ARGV[2] ~= '' then
  local time = redis.call('TIME')
  ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %s', ends, ARGV[3]))
return 1
