#!lua
-- Take requests over from their entries: from here on a request lives in its record, under a fence and a lease.
-- Whoever settles the entry of a new id owns it, so a worker that slept through its turn gets `lost`.
-- KEYS:   leases, history (see history.lua), then for each item: request stream, record, allocation hash
-- ARGV:   group, lease ms, the beat remembered or '', then for each item: entry id, request id, fence, digest, body,
--         timeout ms, priority, context JSON or '', reply_to or '', '1' to decline a new id
-- REPLY:  {now ms, since and proven ms of the last loss (0: never), 1 where there is proof of one that is not written down
--         yet, else 0, one item each: {'reserved', deadline ms} | {'ended', owning entry, {hash}} | {'duplicate'} |
--         {'conflict'} | {'lost'} | {'declined'} | {'fault', message}}; repeating with the same fence gives the same items
-- MEMORY: refused when full, before anything is written
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local group, lease_ms = ARGV[1], tonumber(ARGV[2])
local REPLY_TO_MAX = 8
-- what is done for all items in one call each, since a call costs more than what it does
local settled, leases, stale, begun = {}, {}, {}, {}

local function add_reply_to(record, name)
  if name == '' then return end
  local names = {}
  for each in string.gmatch(redis.call('HGET', record, 'reply_to') or '', '%S+') do
    if each ~= name then names[#names + 1] = each end
  end
  names[#names + 1] = name
  while #names > REPLY_TO_MAX do table.remove(names, 1) end
  redis.call('HSET', record, 'reply_to', table.concat(names, ' '))
end

local function settle(stream, entry)
  if redis.call('XACK', stream, group, entry) == 0 then return false end
  settled[stream] = settled[stream] or {}
  table.insert(settled[stream], entry)
  return true
end

local function reserve(k, a)
  local stream, record, hash = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local entry, id, fence, digest, body = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
  local priority, context, reply_to = ARGV[a + 6], ARGV[a + 7], ARGV[a + 8]
  local known = redis.call('HMGET', record, 'digest', 'final', 'entry', 'fence', 'deadline', 'priority')
  if known[1] then
    -- two streams may give two entries one id: the priority names the stream
    local owning = known[3] == entry and known[6] == priority
    if owning and known[4] == fence and not known[2] then return {'reserved', tonumber(known[5])} end
    -- '*' is an id that was cancelled before anyone asked for it: any body of it has ended
    if known[1] ~= digest and known[1] ~= '*' then return {'conflict'} end
    if known[2] then
      local fields = redis.call('HGETALL', hash)
      if #fields == 0 then fields = {'state', known[2], 'final', '1', 'request_id', id} end
      return {'ended', known[3], fields}
    end
    if owning then return {'lost'} end
    add_reply_to(record, reply_to)
    settle(stream, entry)
    return {'duplicate'}
  end
  if ARGV[a + 9] ~= '' then return {'declined'} end
  if not settle(stream, entry) then return {'lost'} end
  local enqueued = tonumber(string.match(entry, '^(%d+)'))
  local deadline = enqueued + tonumber(ARGV[a + 5])
  redis.call('HSET', record, 'digest', digest, 'entry', entry, 'fence', fence, 'body', body,
    'stream', stream, 'priority', priority, 'deadline', deadline, 'generation', 1, 'takes', 1)
  add_reply_to(record, reply_to)
  local fields = {hash, 'state', 'allocating', 'request_id', id, 'priority', priority, 'enqueued_at', enqueued, 'updated_at', now}
  if context ~= '' then
    fields[12], fields[13] = 'context', context
  end
  stale[#stale + 1], begun[#begun + 1] = hash, fields
  leases[#leases + 1] = now + lease_ms
  leases[#leases + 1] = id
  return {'reserved', deadline}
end

local history = redis.call('HMGET', KEYS[2], 'since', 'proven', 'beat')
local unnoticed = (tonumber(ARGV[3]) or 0) > tonumber(history[3] or 0) and 1 or 0
local replies = {now, tonumber(history[1] or 0), tonumber(history[2] or 0), unnoticed}
for item = 0, (#KEYS - 2) / 3 - 1 do
  local good, reply = pcall(reserve, 3 + item * 3, 4 + item * 10)
  if not good then
    reply = {'fault', type(reply) == 'table' and reply.err or tostring(reply)}
  end
  replies[#replies + 1] = reply
end
for stream, entries in pairs(settled) do redis.call('XDEL', stream, unpack(entries)) end
if #begun > 0 then
  redis.call('DEL', unpack(stale))
  for _, fields in ipairs(begun) do redis.call('HSET', unpack(fields)) end
  redis.call('ZADD', KEYS[1], unpack(leases))
end
return replies
