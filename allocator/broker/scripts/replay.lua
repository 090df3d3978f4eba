#!lua
-- Put the request of a dead letter into its stream again, clear the failure that stands in its way, remove the letter.
-- KEYS:   dead letters, request stream, record, allocation hash (the last two of the letter's id, if it has one)
-- ARGV:   entry id of the letter, request id or ''
-- REPLY:  {'replayed', entry id} | {'gone'} (no such letter) | {'empty'} (it holds no request) | {'known', state}
-- MEMORY: refused when full, before anything is written
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then return {'gone'} end
local request = ''
for each = 1, #letter[2], 2 do
  if letter[2][each] == 'request' then request = letter[2][each + 1] end
end
if request == '' then return {'empty'} end

if ARGV[2] ~= '' then
  local hash = redis.call('HMGET', KEYS[4], 'state', 'session_id')
  local state, session = hash[1], hash[2]
  if redis.call('EXISTS', KEYS[3]) == 1 then
    local known = redis.call('HMGET', KEYS[3], 'final', 'session')
    state, session = known[1] or 'allocating', known[2]
  end
  if state and (state ~= 'failed' or (session and session ~= '')) then return {'known', state} end
  redis.call('DEL', KEYS[3], KEYS[4])
end
local entry = redis.call('XADD', KEYS[2], '*', 'request', request)
redis.call('XDEL', KEYS[1], ARGV[1])
return {'replayed', entry}
