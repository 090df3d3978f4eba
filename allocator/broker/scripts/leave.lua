#!lua flags=allow-oom
-- Take this consumer off the groups, and those that have been silent for a day, but only where nothing is pending:
-- deleting a consumer drops what it holds.
-- KEYS:   the request streams
-- ARGV:   group, consumer
-- REPLY:  how many were taken off
-- MEMORY: allowed when full
local gone = 0
for _, stream in ipairs(KEYS) do
  -- a stream or a group that is not there answers with an error, which has no items
  for _, consumer in ipairs(redis.pcall('XINFO', 'CONSUMERS', stream, ARGV[1])) do
    local facts = {}
    for each = 1, #consumer, 2 do facts[consumer[each]] = consumer[each + 1] end
    if facts['pending'] == 0 and (facts['name'] == ARGV[2] or facts['idle'] > 86400000) then
      redis.call('XGROUP', 'DELCONSUMER', stream, ARGV[1], facts['name'])
      gone = gone + 1
    end
  end
end
return gone
