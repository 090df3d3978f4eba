#!lua flags=no-writes
-- List dead letters, oldest first, without their bytes.
-- KEYS:   dead letters
-- ARGV:   entry id to begin after, or '-'; count
-- REPLY:  {now ms, for each: {entry id, number of bytes, field, value, ...}} of the fields but `request`
-- MEMORY: allowed when full, for it only reads
local time = redis.call('TIME')
local replies = {time[1] * 1000 + math.floor(time[2] / 1000)}
local first = ARGV[1] == '-' and '-' or '(' .. ARGV[1]
for _, letter in ipairs(redis.call('XRANGE', KEYS[1], first, '+', 'COUNT', ARGV[2])) do
  local reply, fields = {letter[1], 0}, letter[2]
  for each = 1, #fields, 2 do
    if fields[each] == 'request' then
      reply[2] = #fields[each + 1]
    else
      reply[#reply + 1], reply[#reply + 2] = fields[each], fields[each + 1]
    end
  end
  replies[#replies + 1] = reply
end
return replies
