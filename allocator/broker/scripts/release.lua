#!lua flags=allow-oom
-- The session of an allocated request has been stopped because someone asked: say so.
-- KEYS:   record, allocation hash, results, condemned, condemned notes
-- ARGV:   session id, provider/session id, request id, prefix of reply streams, oldest results id kept, results lifetime ms, keep ms,
--         now ms, event
-- REPLY:  1, or 0 where it was said before
-- MEMORY: allowed when full
redis.call('ZREM', KEYS[4], ARGV[2])
redis.call('HDEL', KEYS[5], ARGV[2])
local known = redis.call('HMGET', KEYS[1], 'final', 'session', 'reply_to')
if known[1] ~= 'allocated' or known[2] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'final', 'released')
redis.call('PEXPIRE', KEYS[1], ARGV[7])
-- a hash that is none, or of which nothing is left, is made anew: the answer must be readable
local words = {'state', 'released', 'final', '1', 'request_id', ARGV[3], 'updated_at', ARGV[8]}
if type(redis.pcall('HSET', KEYS[2], unpack(words))) == 'table' then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], unpack(words))
end
redis.call('PEXPIRE', KEYS[2], ARGV[7])

-- a stream that senders name may be anything: that it is no stream must not cost the others their answer
local function announce(stream)
  return redis.pcall('XADD', stream, 'MINID', '~', ARGV[5], '*', 'request_id', ARGV[3], 'state', 'released', 'event', ARGV[9])
end
announce(KEYS[3])
for name in string.gmatch(known[3] or '', '%S+') do
  local stream = ARGV[4] .. name
  if not announce(stream).err then redis.call('PEXPIRE', stream, ARGV[6]) end
end
return 1
