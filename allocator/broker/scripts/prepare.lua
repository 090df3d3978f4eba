#!lua flags=allow-oom
-- Claim the namespace where it is nobody's yet, and make the consumer groups where it is ours.
-- KEYS:   meta, then the request streams
-- ARGV:   contract version, deployment, group, partitions
-- REPLY:  {now ms, contract version, deployment, partitions} as they stand; nothing is made where they are another's
-- MEMORY: allowed when full, so that a worker that restarts can finish what waits
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for name, value in pairs({contract = ARGV[1], deployment = ARGV[2], partitions = ARGV[4], created_at = now}) do
  redis.call('HSETNX', KEYS[1], name, value)
end
local known = redis.call('HMGET', KEYS[1], 'contract', 'deployment', 'partitions')
if known[2] == ARGV[2] and known[3] == ARGV[4] and tonumber(known[1]) <= tonumber(ARGV[1]) then
  for item = 2, #KEYS do
    local made = redis.pcall('XGROUP', 'CREATE', KEYS[item], ARGV[3], '0', 'MKSTREAM')
    if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  end
end
return {now, known[1], known[2], known[3]}
