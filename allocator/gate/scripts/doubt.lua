#!lua flags=allow-oom
-- Count an unknown outcome; enough of them in a row set the limit aside, and each probe that fails after it for longer. What comes back while it is set aside changes nothing.
-- KEYS:   the limit
-- ARGV:   how many in a row set it aside, first time ms, last time ms, jitter 0..1, '1' where the call was a probe: another may go, ms for which it is set aside at most: what lies further ahead is over, the clock went back
-- REPLY:  ms for which it is set aside by now, 0 for not at all
-- MEMORY: allowed when full
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known = redis.call('HMGET', KEYS[1], 'doubts', 'aside', 'asides')
if ARGV[5] ~= '' then redis.call('HDEL', KEYS[1], 'probe') end
local doubts, aside, asides = tonumber(known[1] or 0), tonumber(known[2] or 0), tonumber(known[3] or 0)
if aside - now > ARGV[6] * 1000 then aside = 0 end
if aside <= now then
  doubts, aside = doubts + 1, now
  if asides > 0 or doubts >= tonumber(ARGV[1]) then
    asides = math.min(asides + 1, 30)
    local rest = math.min(tonumber(ARGV[2]) * 2 ^ (asides - 1), tonumber(ARGV[3]))
    aside = now + rest * 1000 * (1 + 0.2 * tonumber(ARGV[4]))
    redis.call('HSET', KEYS[1], 'aside', string.format('%.0f', aside), 'asides', asides)
    redis.call('HDEL', KEYS[1], 'probe')
  end
  redis.call('HSET', KEYS[1], 'doubts', doubts)
  redis.call('PEXPIRE', KEYS[1], 3600000)
end
return math.ceil((aside - now) / 1000)
