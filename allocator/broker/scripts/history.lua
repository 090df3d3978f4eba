#!lua flags=allow-oom
-- Find out whether this server has lost something that one of us saw: a tail of its log, or all since a backup.
-- Who was here before remembers the beat it was told last; a server that knows less has proven a loss. Else there is the
-- name of the server's history: where that has changed one must be suspected, though a restart changes it as well, for
-- what was lost may be shorter than the time between two beats.
-- KEYS:   history: hash of id, since (of the last loss, suspected or proven, ms), proven (ms), beat
-- ARGV:   the beat remembered, or ''
-- REPLY:  {now ms, since ms, proven ms (0 each: never), beat to remember}
-- MEMORY: allowed when full
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or '?'
local known = redis.call('HMGET', KEYS[1], 'id', 'since', 'proven', 'beat')
local since, proven, beat = tonumber(known[2] or 0), tonumber(known[3] or 0), tonumber(known[4] or 0)
local remembered = tonumber(ARGV[1])
if remembered and remembered > beat then
  since, proven = now, now
elseif known[1] and known[1] ~= id then
  since = now
end
beat = math.max(beat, remembered or 0) + 1
redis.call('HSET', KEYS[1], 'id', id, 'since', since, 'proven', proven, 'beat', beat)
return {now, since, proven, beat}
