#!lua flags=allow-oom
-- End requests: last state, announcement and clean-up in one step; a stale fence changes nothing.
-- KEYS:   leases, results, condemned, condemned notes, dead letters, then for each item: record, allocation hash
-- ARGV:   prefix of reply streams, oldest results id kept, results lifetime ms, now ms, oldest dead letter kept, then for each item: request id, fence,
--         keep ms, session id or '', provider/session id or '', the provider's own id of it or '', event, dead letter code or '', trail or '', the fields
--         as a JSON list of name, value, ... that begins with the state, number of members to condemn, then for each member: provider/session id, note
-- REPLY:  for each: {'done'} | {'already', session id} | {'stale', state, session id} | {'condemned'}
-- MEMORY: allowed when full
-- SLOT:   reply streams are named by what the records hold, all of one hash tag
local replies, a, now, ended = {}, 6, tonumber(ARGV[4]), {}
local some_condemned = redis.call('EXISTS', KEYS[3]) == 1

-- a stream that senders name may be anything: that it is no stream must not undo the end
local function announce(stream, id, state, event)
  return redis.pcall('XADD', stream, 'MINID', '~', ARGV[2], '*', 'request_id', id, 'state', state, 'event', event)
end

for item = 0, (#KEYS - 5) / 2 - 1 do
  local record, hash = KEYS[6 + item * 2], KEYS[7 + item * 2]
  local id, fence, keep, session, member, native = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5]
  local event, letter, trail = ARGV[a + 6], ARGV[a + 7], ARGV[a + 8]
  local fields, condemn_count, condemn_at = ARGV[a + 9], tonumber(ARGV[a + 10]), a + 11
  a = condemn_at + condemn_count * 2
  local known = redis.pcall('HMGET', record, 'fence', 'final', 'session', 'reply_to')
  if known[1] ~= fence then
    replies[#replies + 1] = {'stale', known[2] or '', known[3] or ''}
  elseif known[2] then
    replies[#replies + 1] = {'already', known[3] or ''}
  elseif some_condemned and member ~= '' and (redis.call('ZSCORE', KEYS[3], member) or
      native ~= '' and redis.call('ZSCORE', KEYS[3], string.match(member, '^[^/]*/') .. native)) then
    replies[#replies + 1] = {'condemned'}
  else
    for each = 0, condemn_count - 1 do
      local condemned = ARGV[condemn_at + each * 2]
      redis.call('ZADD', KEYS[3], 'NX', now, condemned)
      some_condemned = true
      redis.call('HSETNX', KEYS[4], condemned, now .. ' ' .. ARGV[condemn_at + each * 2 + 1])
    end
    fields = cjson.decode(fields)
    local state = fields[2]
    local cleared = redis.pcall('HDEL', hash, 'error_code', 'error_message')
    if type(cleared) == 'table' then redis.call('DEL', hash) end
    redis.call('HSET', hash, unpack(fields))
    redis.call('PEXPIRE', hash, keep)
    if letter ~= '' then
      local kept = redis.call('HMGET', record, 'body', 'stream', 'entry')
      redis.call('XADD', KEYS[5], 'MINID', '=', ARGV[5], '*', 'code', letter, 'message', redis.call('HGET', hash, 'error_message') or '',
        'request_id', id, 'stream', kept[2] or '', 'entry_id', kept[3], 'request', kept[1] or '')
      redis.call('PEXPIRE', KEYS[5], now - tonumber(string.match(ARGV[5], '^%d+')))
    end
    redis.call('HDEL', record, 'body', 'stream', 'clean', 'unbegun')
    redis.call('HSET', record, 'final', state, 'session', session, 'member', member)
    if native ~= '' then redis.call('HSET', record, 'native', native) end
    if trail ~= '' then redis.call('HSET', record, 'trail', trail) end
    redis.call('PEXPIRE', record, keep)
    ended[#ended + 1] = id
    announce(KEYS[2], id, state, event)
    for name in string.gmatch(known[4] or '', '%S+') do
      local stream = ARGV[1] .. name
      if not announce(stream, id, state, event).err then redis.call('PEXPIRE', stream, ARGV[3]) end
    end
    replies[#replies + 1] = {'done'}
  end
end
if #ended > 0 then redis.call('ZREM', KEYS[1], unpack(ended)) end
return replies
