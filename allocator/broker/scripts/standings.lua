#!lua flags=allow-oom
-- Hold sessions against what is kept of their requests; nothing is changed.
-- KEYS:   condemned, then for each item: record and allocation hash of the request that its label names
-- ARGV:   for each item: session id, provider/session id
-- REPLY:  for each: 'in_play' | 'condemned' | 'under_way' | 'otherwise' (its request has ended without it) | 'no_record'
-- MEMORY: allowed when full

-- what is no hash answers with an error, and explains nothing
local function read(key, ...)
  local found = redis.pcall('HMGET', key, ...)
  if found.err then return {} end
  return found
end

local replies = {}
for item = 0, #ARGV / 2 - 1 do
  local session, member = ARGV[1 + item * 2], ARGV[2 + item * 2]
  local record = read(KEYS[2 + item * 2], 'final', 'session', 'body')
  local answer = read(KEYS[3 + item * 2], 'state', 'session_id')
  local reply = 'no_record'
  if record[1] == 'allocated' and record[2] == session or answer[1] == 'allocated' and answer[2] == session then
    reply = 'in_play'
  elseif redis.call('ZSCORE', KEYS[1], member) then
    reply = 'condemned'
  elseif record[1] then
    reply = 'otherwise'
  elseif record[3] then
    reply = 'under_way'
  end
  replies[#replies + 1] = reply
end
return replies
