#!lua flags=allow-oom
-- Take over the best of those who are parked for some lots, each under a new fence: by priority, then by deadline.
-- In every tenth turn of a lot the lowest goes first, in another a normal one where low ones wait as well.
-- KEYS:   parked, leases, turns, names of lots
-- ARGV:   prefix of records, prefix of allocation hashes, prefix of lots, fence prefix, lease ms, count,
--         then for each want: lot, count
-- REPLY:  {how many are parked, {{number of the want from 0, what reclaim.lua says of one}, ...}, {high, normal, low of
--         each want, ...}}; only the first where nobody is parked
-- MEMORY: allowed when full
-- SLOT:   records and lots are named by what the lots and records hold, all of one hash tag
-- A repeat takes others over: those whose reply was lost come back when their lease ends.
if redis.call('SCARD', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[4]) -- no name outlives those it was kept for
  return {0}
end
local records, hashes, lots = ARGV[1], ARGV[2], ARGV[3]
local SWEPT_MAX, FETCHED_MAX, TURNS_MS = 256, 32, 3600000
local PRIORITIES = {'high', 'normal', 'low'}
local LOWEST_FIRST, NORMAL_FIRST = {'low', 'normal', 'high'}, {'normal', 'high', 'low'}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local room, swept, holds, waiting = tonumber(ARGV[6]), 0, {}, {}

-- what leaves the lots leaves them many at once, before anyone looks at a lot again
local leases, gone, leaving = {}, {}, {}
local function leave()
  if #gone > 0 then
    redis.call('ZADD', KEYS[2], unpack(leases))
    redis.call('SREM', KEYS[1], unpack(gone))
    for key, ids in pairs(leaving) do redis.call('ZREM', key, unpack(ids)) end
    leases, gone, leaving = {}, {}, {}
  end
end

-- whoever is at the head of a line and may be taken over; what has no business there is swept out as it is met
local function head(line)
  while not line.known do
    local id = line.ids[line.at]
    if not id then
      if line.all then return false end
      leave()
      line.ids, line.at = redis.call('ZRANGE', line.key, 0, FETCHED_MAX - 1), 1
      line.all = #line.ids < FETCHED_MAX
      id = line.ids[1]
      if not id then return false end
    end
    local known = redis.pcall('HMGET', records .. id, 'body', 'generation', 'deadline', 'entry', 'priority', 'takes', 'parked',
      'trail', 'final')
    local parked = known[1] and known[7] and not known[9]
    if parked and known[5] == line.priority and string.find('\n' .. known[7] .. '\n', '\n' .. line.lot .. '\n', 1, true) then
      line.known = known
    elseif swept == SWEPT_MAX then
      return false
    else
      swept, line.at = swept + 1, line.at + 1
      redis.call('ZREM', line.key, id)
      if not parked then redis.call('SREM', KEYS[1], id) end
    end
  end
  return true
end

local function next_line(lines, turn)
  local order = PRIORITIES
  if turn % 10 == 0 then
    order = LOWEST_FIRST
  elseif turn % 10 == 5 and head(lines.low) then
    order = NORMAL_FIRST
  end
  for _, priority in ipairs(order) do
    if head(lines[priority]) then return lines[priority] end
  end
end

local function take_over(line, want)
  local id, known, fence = line.ids[line.at], line.known, ARGV[4] .. #holds + 1
  for lot in string.gmatch(known[7], '[^\n]+') do
    local key = lots .. lot .. ':' .. known[5]
    leaving[key] = leaving[key] or {}
    table.insert(leaving[key], id)
  end
  table.insert(gone, id)
  table.insert(leases, now + tonumber(ARGV[5]))
  table.insert(leases, id)
  redis.call('HSET', records .. id, 'fence', fence)
  redis.call('HDEL', records .. id, 'clean', 'parked')
  redis.pcall('HSET', hashes .. id, 'state', 'allocating', 'updated_at', now)
  local attempts = redis.pcall('HGET', hashes .. id, 'attempts')
  if type(attempts) ~= 'string' then attempts = '' end
  holds[#holds + 1] = {want, id, known[1], fence, known[2], known[3], known[4], known[5], known[6], '1', attempts,
    known[8] or ''}
  line.known, line.at = nil, line.at + 1
end

for a = 7, #ARGV, 2 do
  local lot, left, lines = ARGV[a], math.min(tonumber(ARGV[a + 1]), room), {}
  for _, priority in ipairs(PRIORITIES) do
    lines[priority] = {key = lots .. lot .. ':' .. priority, lot = lot, priority = priority, ids = {}, at = 1}
  end
  local before, turn = #holds, left > 0 and tonumber(redis.call('HGET', KEYS[3], lot) or 0)
  while left > 0 do
    local line = next_line(lines, turn + 1)
    if not line then break end
    take_over(line, (a - 7) / 2)
    turn, left = turn + 1, left - 1
  end
  room = room - (#holds - before)
  if #holds > before then
    redis.call('HSET', KEYS[3], lot, turn % 10)
    redis.call('PEXPIRE', KEYS[3], TURNS_MS)
  end
end
leave()

for a = 7, #ARGV, 2 do
  for _, priority in ipairs(PRIORITIES) do
    waiting[#waiting + 1] = redis.call('ZCARD', lots .. ARGV[a] .. ':' .. priority)
  end
end
return {redis.call('SCARD', KEYS[1]), holds, waiting}
