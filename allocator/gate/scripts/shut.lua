#!lua flags=allow-oom
-- Shut a limit; many calls that come back refused at once count as one closing. How long it is set aside stays as it is.
-- KEYS:   the limit
-- ARGV:   cause, for how long in ms or '', first cool-down ms, last cool-down ms, jitter 0..1, whether the host has answered 0|1, ms for which it is shut and set aside at most: what lies further ahead is over, the clock went back
-- REPLY:  ms until its probe
-- MEMORY: allowed when full
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known = redis.call('HMGET', KEYS[1], 'until', 'level', 'aside')
local ends, level, aside = tonumber(known[1] or 0), tonumber(known[2] or 0), tonumber(known[3] or 0)
if ends - now > ARGV[7] * 1000 then ends = 0 end
if aside - now > ARGV[8] * 1000 then aside = 0 end
local asked = ARGV[2] ~= '' and now + tonumber(ARGV[2]) * 1000 or nil
if ends > now then
  ends = math.max(ends, asked or 0)
else
  level = level + 1
  local cooldown = math.min(tonumber(ARGV[3]) * 2 ^ (level - 1), tonumber(ARGV[4]))
  ends = asked or now + cooldown * 1000 * (1 + 0.2 * tonumber(ARGV[5]))
end
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', ends), 'level', math.min(level, 30), 'cause', ARGV[1])
redis.call('HDEL', KEYS[1], 'probe')
if ARGV[6] == '1' and aside <= now then redis.call('HDEL', KEYS[1], 'doubts', 'aside', 'asides') end
redis.call('PEXPIRE', KEYS[1], 3600000)
return math.ceil((math.max(ends, aside) - now) / 1000)
