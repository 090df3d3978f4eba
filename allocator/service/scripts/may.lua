#!lua flags=no-writes
-- Say which of some commands this user may not run; none of them is run.
-- KEYS:   none
-- ARGV:   JSON: a list of commands, each a list of words
-- REPLY:  the positions of those that are refused, from 1
-- MEMORY: runs when the server is full, for it writes nothing
local refused = {}
for position, command in ipairs(cjson.decode(ARGV[1])) do
  if not redis.acl_check_cmd(unpack(command)) then
    refused[#refused + 1] = position
  end
end
return refused
