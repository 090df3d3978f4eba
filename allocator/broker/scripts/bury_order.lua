#!lua flags=allow-oom
-- Settle a cancellation that names no request, and keep what it holds as a dead letter.
-- KEYS:   cancellations, dead letters
-- ARGV:   group, entry id, code, message, JSON of its fields, oldest dead letter kept, dead letters kept at most
-- REPLY:  1, or 0 where someone else settled it
-- MEMORY: allowed when full
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
if redis.call('XDEL', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('XADD', KEYS[2], 'MINID', '=', ARGV[6], '*', 'code', ARGV[3], 'message', ARGV[4],
  'request_id', '', 'stream', KEYS[1], 'entry_id', ARGV[2], 'request', ARGV[5])
redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', ARGV[7])
-- bytes that may hold secrets do not outlive their time on a quiet system either
redis.call('PEXPIRE', KEYS[2], redis.call('TIME')[1] * 1000 - tonumber(string.match(ARGV[6], '^%d+')))
return 1
