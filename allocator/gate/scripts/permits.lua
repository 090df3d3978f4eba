#!lua flags=allow-oom
-- Give permits to lanes: GCRA on Redis time, several limits at once, a little ahead.
-- KEYS:   for each ask its limits
-- ARGV:   reach us, reach us where two rates are asked, probe hold us, for each ask: count, number of limits, then for each limit: interval us (0: no rate), burst
-- REPLY:  for each ask {wait us, cause or '', probe 0|1, offset us, ...}
-- MEMORY: allowed when full: a gate that forgets would let the fleet exceed its rates
-- STATE:  hash of tat (when the next permit is due), until (shut), cause, level (closings in a row), probe (one is out until)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reach, shared_reach, hold = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local replies, k, a = {}, 1, 4

local function text(number) return string.format('%.0f', number) end

while a <= #ARGV do
  local count, limits = tonumber(ARGV[a]), {}
  local wait, cause, probing, rated = 0, '', false, 0
  for item = 1, tonumber(ARGV[a + 1]) do
    local key = KEYS[k]
    k = k + 1
    local known = redis.call('HMGET', key, 'tat', 'until', 'level', 'probe', 'cause')
    local interval, burst = tonumber(ARGV[a + item * 2]), tonumber(ARGV[a + item * 2 + 1])
    local credit = (burst - 1) * interval
    if interval > 0 then rated = rated + 1 end
    -- a permit due later than any that can have been given means that the clock went back: it must not stop a lane
    local limit = {key = key, interval = interval, credit = credit, shut = false,
      tat = math.min(math.max(tonumber(known[1] or 0), now - credit), now + reach + interval)}
    local shut = tonumber(known[2] or 0)
    if shut <= now and tonumber(known[3] or 0) > 0 then
      limit.shut = true
      shut = tonumber(known[4] or 0)
      if shut <= now then probing = true end
    end
    if shut - now > wait then wait, cause = shut - now, known[5] or '' end
    limits[item] = limit
  end
  a = a + 2 + #limits * 2
  local reply = {wait, cause, 0}
  if wait == 0 then
    if probing then count = math.min(count, 1) end
    local ahead = rated > 1 and shared_reach or reach
    for _ = 1, count do
      local at = now
      for _, limit in ipairs(limits) do at = math.max(at, limit.tat) end
      if at - now > ahead then
        reply[1] = at - now - ahead
        break
      end
      -- a shared limit counts a permit when it is given: counted when it is due, all before it would be lost to others
      for item, limit in ipairs(limits) do
        limit.tat = math.max(limit.tat, (item == 1 and at or now) - limit.credit) + limit.interval
      end
      reply[#reply + 1] = at - now
    end
    for _, limit in ipairs(limits) do
      if #reply > 3 and limit.shut then
        reply[3] = 1
        redis.call('HSET', limit.key, 'probe', text(now + hold))
      end
      if #reply > 3 and limit.interval > 0 then
        redis.call('HSET', limit.key, 'tat', text(limit.tat))
        redis.call('PEXPIRE', limit.key, 3600000)
      end
    end
  end
  reply[1] = math.ceil(reply[1])
  for item = 4, #reply do reply[item] = math.floor(reply[item]) end
  replies[#replies + 1] = reply
end
return replies
