#!lua flags=allow-oom
-- Read up to `count` entries, the streams in the order given, and make them pending under this consumer.
-- KEYS:   the request streams, best first
-- ARGV:   group, consumer, count
-- REPLY:  list of {stream key, entry id, {field, value, ...}}
-- MEMORY: allowed when full: what is read is only made pending; `reserve` is what is refused
local group, consumer, room = ARGV[1], ARGV[2], tonumber(ARGV[3])
local taken = {}
for _, stream in ipairs(KEYS) do
  if room <= 0 then break end
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', room, 'STREAMS', stream, '>')
  if reply then
    for _, entry in ipairs(reply[1][2]) do
      taken[#taken + 1] = {stream, entry[1], entry[2]}
      room = room - 1
    end
  end
end
return taken
