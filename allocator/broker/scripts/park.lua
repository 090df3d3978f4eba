#!lua
-- Let go of requests that are to wait. Each is handed back clean, under nobody's fence, with a lease until it is to be
-- looked at again, and stands in its lots by its deadline.
-- KEYS:   leases, parked, names of lots, then for each item: record, allocation hash
-- ARGV:   prefix of lots, now ms, then for each item: request id, fence, wake ms, lots (one a line), attempts JSON or '',
--         error code or '', error message, trail or ''
-- REPLY:  1 where the fence held, else 0; repeating gives the same reply
-- MEMORY: refused when full, before anything is written
-- SLOT:   lots are named by what the items say, all of one hash tag
local replies, leases, parked, standing, names = {}, {}, {}, {}, {}

local function append(list, ...)
  for _, word in ipairs({...}) do list[#list + 1] = word end
end

for item = 0, (#KEYS - 3) / 2 - 1 do
  local record, hash, a = KEYS[4 + item * 2], KEYS[5 + item * 2], 3 + item * 8
  local id, lots = ARGV[a], ARGV[a + 3]
  local parked_fence = ARGV[a + 1] .. '~'
  local known = redis.pcall('HMGET', record, 'fence', 'final', 'deadline', 'priority')
  local ours = known[1] == ARGV[a + 1] and not known[2]
  if ours then
    -- the former fence is stale from here on: a renewal that is still on its way must not put the waking off
    local kept = {'fence', parked_fence, 'clean', '1', 'parked', lots}
    if ARGV[a + 7] ~= '' then append(kept, 'trail', ARGV[a + 7]) end
    redis.call('HSET', record, unpack(kept))
    append(leases, math.min(tonumber(ARGV[a + 2]), tonumber(known[3])), id)
    append(parked, id)
    for lot in string.gmatch(lots, '[^\n]+') do
      local key = ARGV[1] .. lot .. ':' .. known[4]
      names[lot] = true
      standing[key] = standing[key] or {}
      append(standing[key], known[3], id)
    end
    local fields = {'state', 'parked', 'updated_at', ARGV[2]}
    if ARGV[a + 4] ~= '' then append(fields, 'attempts', ARGV[a + 4]) end
    if ARGV[a + 5] ~= '' then append(fields, 'error_code', ARGV[a + 5], 'error_message', ARGV[a + 6]) end
    redis.pcall('HSET', hash, unpack(fields))
  end
  replies[item + 1] = (ours or known[1] == parked_fence) and 1 or 0
end
if #parked > 0 then
  redis.call('ZADD', KEYS[1], unpack(leases))
  redis.call('SADD', KEYS[2], unpack(parked))
  for key, words in pairs(standing) do redis.call('ZADD', key, unpack(words)) end
  local time = redis.call('TIME')
  for lot in pairs(names) do redis.call('ZADD', KEYS[3], time[1] * 1000 + math.floor(time[2] / 1000), lot) end
end
return replies
