#!lua flags=allow-oom
-- Hold sessions against what is kept of their requests; nothing is changed.
-- KEYS:   condemned, then for each item: record and allocation hash of the request that its label names
-- ARGV:   for each item: session id, provider/session id, the provider's own id of it or ''
-- REPLY:  for each: 'in_play' | 'doubled' (another that bears our id serves its request) | 'condemned' | 'under_way' | 'otherwise' (its request has ended without it) | 'no_record'
-- MEMORY: allowed when full

-- what is no hash answers with an error, and explains nothing
local function read(key, ...)
  local found = redis.pcall('HMGET', key, ...)
  if found.err then return {} end
  return found
end

local replies = {}
for item = 0, #ARGV / 3 - 1 do
  local session, member, native = ARGV[1 + item * 3], ARGV[2 + item * 3], ARGV[3 + item * 3]
  local record = read(KEYS[2 + item * 2], 'final', 'session', 'body', 'native')
  local answer = read(KEYS[3 + item * 2], 'state', 'session_id')
  local public = native == '' and session or native
  local named = record[1] == 'allocated' and record[2] == session
  local reply = 'no_record'
  if named and (record[4] or public) == public or answer[1] == 'allocated' and answer[2] == public then
    reply = 'in_play'
  elseif redis.call('ZSCORE', KEYS[1], member) or redis.call('ZSCORE', KEYS[1], string.match(member, '^[^/]*/') .. public) then
    reply = 'condemned'
  elseif named then
    reply = 'doubled'
  elseif record[1] then
    reply = 'otherwise'
  elseif record[3] then
    reply = 'under_way'
  end
  replies[#replies + 1] = reply
end
return replies
