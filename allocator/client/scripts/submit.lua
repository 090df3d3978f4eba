#!lua
-- Add one request to its stream, and say `queued` where nothing is known of its id yet.
-- KEYS:   request stream, allocation hash
-- ARGV:   request JSON, request id, priority, context JSON or '', lifetime of the queued hash in ms
-- REPLY:  {entry id, 1 where the hash was there before, else 0}
-- MEMORY: refused when full, before anything is written
local stream, hash = KEYS[1], KEYS[2]
local entry = redis.call('XADD', stream, '*', 'request', ARGV[1])
if redis.call('EXISTS', hash) == 1 then return {entry, 1} end
local now = string.match(entry, '^(%d+)')
redis.call('HSET', hash, 'state', 'queued', 'request_id', ARGV[2], 'priority', ARGV[3],
  'enqueued_at', now, 'updated_at', now)
if ARGV[4] ~= '' then redis.call('HSET', hash, 'context', ARGV[4]) end
redis.call('PEXPIRE', hash, ARGV[5])
return {entry, 0}
