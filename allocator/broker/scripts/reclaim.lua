#!lua flags=allow-oom
-- Take over requests whose lease has ended, each under a new fence; what their last owner did is unknown
-- unless it handed them back clean.
-- KEYS:   leases
-- ARGV:   prefix of records, prefix of allocation hashes, fence prefix, count, lease ms
-- REPLY:  {now ms, for each: {request id, body, fence, generation, deadline ms, entry, priority, takes, clean, attempts}}
-- MEMORY: allowed when full
-- SLOT:   records are named by what the leases hold, all of one hash tag
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local replies = {now}
for index, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[4])) do
  local record = ARGV[1] .. id
  local known = redis.pcall('HMGET', record, 'body', 'generation', 'deadline', 'entry', 'priority', 'takes', 'clean', 'final')
  if not known[1] or known[8] then
    redis.call('ZREM', KEYS[1], id)
  else
    -- handed back clean, it has ended no worker
    local fence, takes = ARGV[3] .. index, tonumber(known[6]) + (known[7] and 0 or 1)
    redis.call('HSET', record, 'fence', fence, 'takes', takes)
    redis.call('HDEL', record, 'clean')
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[5]), id)
    replies[#replies + 1] = {id, known[1], fence, known[2], known[3], known[4], known[5], tostring(takes),
      known[7] or '', redis.call('HGET', ARGV[2] .. id, 'attempts') or ''}
  end
end
return replies
