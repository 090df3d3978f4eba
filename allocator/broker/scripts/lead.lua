#!lua flags=allow-oom
-- Take the lead in sampling for the fleet, or keep it, unless someone else has it.
-- KEYS:   sampler
-- ARGV:   worker, ms for which nobody else shall have it
-- REPLY:  1, or 0 where someone else has it
-- MEMORY: allowed when full
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
