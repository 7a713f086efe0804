-- Lets an entry go that is older than what is stored elsewhere, or could not be stored. Its stamp stays for a while: whoever was
-- asked for something older still must not bring it.
--
-- KEYS: entry
-- ARGV: microseconds when that was asked for which it gives way to ('': not known), milliseconds for which the stamp stays
-- Answers whether there was one.
local entry = KEYS[1]
local kind = redis.call('TYPE', entry).ok
if kind == 'none' then
  return 0
end
local stamp = kind == 'hash' and redis.call('HGET', entry, 's')
if not stamp or #stamp > 16 or not string.find(stamp, '^%d+$') then
  return redis.call('DEL', entry)
end
-- Forgotten already, which is to be remembered for as long as it was to be; or newer.
if redis.call('HEXISTS', entry, 'h') == 0 or (ARGV[1] ~= '' and tonumber(stamp) > tonumber(ARGV[1])) then
  return 0
end
redis.call('DEL', entry)
-- Written even without memory left, as something was deleted for it.
redis.call('HSET', entry, 's', stamp)
redis.call('PEXPIRE', entry, ARGV[2])
return 1
