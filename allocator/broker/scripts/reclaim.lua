#!lua flags=allow-oom
-- Take over requests whose lease has ended, each under a new fence; what their last owner did is unknown
-- unless it handed them back clean.
-- KEYS:   leases, parked
-- ARGV:   prefix of records, prefix of allocation hashes, fence prefix, count, lease ms, prefix of lots, takes beyond
--         which one is a suspect, whose take counts once it begins
-- REPLY:  {now ms, for each: {request id, body, fence, generation, deadline ms, entry, priority, takes, clean, attempts,
--         trail}}
-- MEMORY: allowed when full
-- SLOT:   records and lots are named by what the leases and records hold, all of one hash tag
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replies = {now}

-- one that was parked has waited long enough
local function leave_lots(id, parked, priority)
  for lot in string.gmatch(parked, '[^\n]+') do redis.call('ZREM', ARGV[6] .. lot .. ':' .. priority, id) end
  redis.call('SREM', KEYS[2], id)
  redis.pcall('HSET', ARGV[2] .. id, 'state', 'allocating', 'updated_at', now)
end

for index, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[4])) do
  local record = ARGV[1] .. id
  local known = redis.pcall('HMGET', record, 'body', 'generation', 'deadline', 'entry', 'priority', 'takes', 'clean', 'final',
    'parked', 'trail', 'unbegun')
  if not known[1] or known[8] then
    redis.call('ZREM', KEYS[1], id)
    redis.call('SREM', KEYS[2], id)
  else
    if known[9] then leave_lots(id, known[9], known[5]) end
    -- handed back clean, or still in line, it has ended no worker
    local fence, takes = ARGV[3] .. index, tonumber(known[6]) + ((known[7] or known[11]) and 0 or 1)
    redis.call('HSET', record, 'fence', fence, 'takes', takes)
    redis.call('HDEL', record, 'clean', 'parked', 'unbegun')
    if takes > tonumber(ARGV[7]) then redis.call('HSET', record, 'unbegun', '1') end
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[5]), id)
    -- a hash that is none answers with an error: that must not keep the request from being served
    local attempts = redis.pcall('HGET', ARGV[2] .. id, 'attempts')
    if type(attempts) ~= 'string' then attempts = '' end
    replies[#replies + 1] = {id, known[1], fence, known[2], known[3], known[4], known[5], tostring(takes),
      known[7] or '', attempts, known[10] or ''}
  end
end
return replies
