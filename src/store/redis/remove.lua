-- Forgets an entry, also when there is no memory left: that is asked before the first command that writes, and to delete needs
-- none.
--
-- KEYS: entry, lease
-- ARGV: milliseconds for which it is remembered that it was forgotten, channel, id
-- Answers the stamp under which it is remembered: what is stored under that, or a later one, is newer.
local entry, lease = KEYS[1], KEYS[2]
local stamp = redis.call('TIME')
stamp = stamp[1] * 1000000 + stamp[2]
if redis.call('TYPE', entry).ok == 'hash' then
  local stored = redis.call('HGET', entry, 's')
  if stored and #stored <= 16 and string.find(stored, '^%d+$') and tonumber(stored) >= stamp then
    stamp = tonumber(stored) + 1
  end
end
stamp = string.format('%.0f', stamp)
redis.call('DEL', entry)
-- Whoever fetches it now may have asked before it changed: what that brings is not stored, and nobody waits for it.
local waited_for = redis.pcall('HGET', lease, 'w')
redis.call('DEL', lease)
local noted = redis.pcall('HSET', entry, 's', stamp)
if type(noted) ~= 'table' then
  redis.call('PEXPIRE', entry, ARGV[1])
end
if type(waited_for) == 'string' then
  redis.pcall('PUBLISH', ARGV[2], 'dropped ' .. ARGV[3])
end
return stamp
