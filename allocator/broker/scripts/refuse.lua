#!lua flags=allow-oom
-- Settle an entry that makes no request of its own: refused, repeated after its end, or unreadable.
-- An unreadable one that names a new id fails that id; one that names a known id leaves it as it is. What a client's
-- submit said of an id that stays new (`queued`) goes: it is queued no more.
-- KEYS:   request stream, results, dead letters, record, allocation hash (the last two '' where no id is known)
-- ARGV:   group, entry id, request id or '', prefix of reply streams, reply_to or '', oldest results id kept, results lifetime ms,
--         event, its state, dead letter code or '', its message, the original bytes, oldest dead letter kept, dead letters kept at most,
--         event of a new id's failure or '', keep ms, number of fields, field, value, ...
-- REPLY:  'announced' | 'failed' (a new id ended) | 'buried' (no id could be read) | 'lost' (someone else settled it)
-- MEMORY: allowed when full
local entry, id, reply_to = ARGV[2], ARGV[3], ARGV[5]
if redis.call('XACK', KEYS[1], ARGV[1], entry) == 0 then return 'lost' end
redis.call('XDEL', KEYS[1], entry)

if ARGV[10] ~= '' then
  -- public keys may be anything by now: the entry is settled, and whoever can still be told is
  local kept = redis.pcall('XADD', KEYS[3], 'MINID', '=', ARGV[13], '*', 'code', ARGV[10], 'message', ARGV[11],
    'request_id', id, 'stream', KEYS[1], 'entry_id', entry, 'request', ARGV[12])
  if not kept.err then redis.call('XTRIM', KEYS[3], 'MAXLEN', '~', ARGV[14]) end
  -- bytes that may hold secrets do not outlive their time on a quiet system either
  if not kept.err then redis.call('PEXPIRE', KEYS[3], redis.call('TIME')[1] * 1000 - tonumber(string.match(ARGV[13], '^%d+'))) end
end
if id == '' then return 'buried' end

local state, event, reply = ARGV[9], ARGV[8], 'announced'
if ARGV[15] ~= '' and redis.call('EXISTS', KEYS[4]) == 0 then
  local fields = {}
  for each = 18, 17 + tonumber(ARGV[17]) do fields[#fields + 1] = ARGV[each] end
  redis.call('DEL', KEYS[5])
  redis.call('HSET', KEYS[5], unpack(fields))
  redis.call('PEXPIRE', KEYS[5], ARGV[16])
  redis.call('HSET', KEYS[4], 'digest', 'unreadable', 'entry', entry, 'final', fields[2])
  redis.call('PEXPIRE', KEYS[4], ARGV[16])
  state, event, reply = fields[2], ARGV[15], 'failed'
elseif redis.pcall('HGET', KEYS[5], 'state') == 'queued' and redis.call('EXISTS', KEYS[4]) == 0 then
  redis.call('DEL', KEYS[5])
end
redis.pcall('XADD', KEYS[2], 'MINID', '~', ARGV[6], '*', 'request_id', id, 'state', state, 'event', event)
if reply_to ~= '' then
  local stream = ARGV[4] .. reply_to
  -- a stream that senders name may be anything: that it is no stream must not cost the others their answer
  local told = redis.pcall('XADD', stream, 'MINID', '~', ARGV[6], '*', 'request_id', id, 'state', state, 'event', event)
  if not told.err then redis.call('PEXPIRE', stream, ARGV[7]) end
end
return reply
