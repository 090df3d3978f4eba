#!lua flags=allow-oom
-- Take the turn to reconcile, unless someone has it.
-- KEYS:   reconciler
-- ARGV:   worker, ms for which nobody else shall have it
-- REPLY:  1, or 0 where someone has it
-- MEMORY: allowed when full
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
