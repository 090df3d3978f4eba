#!lua flags=allow-oom
-- Give permits to lanes: GCRA on Redis time, several limits at once, a little ahead, each limit at the rate it has now.
-- KEYS:   for each ask its limits
-- ARGV:   reach us, reach us where two rates are asked, probe hold us, us from permit to permit at one a second, the same of a shared limit, share of its rate that a limit gives up, climb us, us for which it is shut and set aside at most, for each ask: count, last resort 0|1, number of limits, then for each limit: rate (0: none), burst
-- REPLY:  for each ask {wait us, cause or '', probe 0|1, rate of the first limit now in thousandths or 0 for all of it, doubted 0|1, offset us, ...}
-- MEMORY: allowed when full: a gate that forgets would let the fleet exceed its rates
-- STATE:  hash of tat (when the next permit is due); until (shut), cause, level (closings in a row); aside (set aside until), asides (times in a row); probe (one is out until); doubts (unknown outcomes in a row); ceiling (rate at which calls came too fast), slowed (when)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local reach, shared_reach, hold = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local own_pace, shared_pace, drop, climb = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local shut_max, aside_max = tonumber(ARGV[8]), tonumber(ARGV[9])
local replies, k, a = {}, 1, 10

local function text(number) return string.format('%.0f', number) end

-- a moment further ahead than it can have been set means that the clock went back: it is over, since nobody knows when it would be
local function until_when(moment, us_max)
  local ends = tonumber(moment or 0)
  return ends - now > us_max and 0 or ends
end

-- until when it gives nothing, why, and whether it takes a probe to open it
local function closing(key, closed, last_resort)
  local known = redis.call('HMGET', key, 'cause', 'aside', 'probe')
  local ends, why, aside = until_when(closed, shut_max), known[1] or '', until_when(known[2], aside_max)
  if aside > ends and not (last_resort and ends > now) then
    ends, why = last_resort and ends or aside, 'set_aside'
  end
  if ends > now or not (closed or known[2]) then return ends, why, false end
  return until_when(known[3], hold), why, true
end

while a <= #ARGV do
  local count, last_resort, limits = tonumber(ARGV[a]), ARGV[a + 1] == '1', {}
  local wait, cause, probing, rated, lowered, doubted = 0, '', false, 0, 0, 0
  for item = 1, tonumber(ARGV[a + 2]) do
    local key = KEYS[k]
    k = k + 1
    local known = redis.call('HMGET', key, 'tat', 'until', 'doubts', 'ceiling', 'slowed')
    local rate, burst, interval = tonumber(ARGV[a + item * 2 + 1]), tonumber(ARGV[a + item * 2 + 2]), 0
    if rate > 0 then
      -- a lowering that is still to come means that the clock went back: forgotten, since nobody knows how old it is
      if known[4] and tonumber(known[5]) <= now then
        local left = 1 - (now - known[5]) / climb
        local climbed = math.max(known[4] * (1 - drop * left ^ 3), 1)
        if climbed < rate then
          rate = climbed
          if item == 1 then lowered = math.floor(rate * 1000 + 0.5) end
        end
      end
      rated, interval = rated + 1, (item == 1 and own_pace or shared_pace) / rate
    end
    local credit = (burst - 1) * interval
    -- a permit due later than any that can have been given means that the clock went back: it must not stop a lane. Kept
    -- as it is put right, or it would lie as far ahead of the next ask.
    local due, latest = tonumber(known[1] or 0), now + reach + interval
    if due > latest then
      due = latest
      redis.call('HSET', key, 'tat', text(due))
    end
    -- What is saved up is counted back from now in intervals of now: a burst that is used up stays so at another rate
    local limit = {key = key, interval = interval, credit = credit, shut = false,
      tat = math.max(due, now - credit)}
    if known[2] or known[3] then
      if known[3] then doubted = 1 end
      local ends, why, shut = closing(key, known[2], last_resort)
      if ends - now > wait then
        wait, cause = ends - now, why
      elseif shut then
        limit.shut, probing = true, true
      end
    end
    limits[item] = limit
  end
  a = a + 3 + #limits * 2
  local reply = {wait, cause, 0, lowered, doubted}
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
      if #reply > 5 and limit.shut then
        reply[3] = 1
        redis.call('HSET', limit.key, 'probe', text(now + hold))
      end
      if #reply > 5 and limit.interval > 0 then
        redis.call('HSET', limit.key, 'tat', text(limit.tat))
        redis.call('PEXPIRE', limit.key, 3600000)
      end
    end
  end
  reply[1] = math.ceil(reply[1])
  for item = 6, #reply do reply[item] = math.floor(reply[item]) end
  replies[#replies + 1] = reply
end
return replies
