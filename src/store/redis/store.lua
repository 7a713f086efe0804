-- Puts an entry in its place, unless somebody else has the lease of its key or has stored something newer.
--
-- KEYS: entry, lease, a place where nobody looks, which has the pieces of a long body already
-- ARGV: token of the lease that it was fetched with, or microseconds when it was asked for without one ('': not known);
--       milliseconds until it expires; milliseconds for which it is remembered what was forgotten; channel; id; stamp of the
--       entry that gets a new head ('': a whole entry); number of the pieces sent before; fields and values
-- Answers 'stored', 'outdated', 'changed' (it is another entry that would get the new head) or 'gone' (pieces are missing).
local entry, lease, aside = KEYS[1], KEYS[2], KEYS[3]
local token, replaces = ARGV[1], ARGV[6]

local function number(key, field)
  if redis.call('TYPE', key).ok ~= 'hash' then
    return nil
  end
  local value = redis.call('HGET', key, field)
  if value and #value <= 16 and string.find(value, '^%d+$') then
    return value
  end
  return nil
end

local function refuse(why)
  redis.call('DEL', aside)
  return why
end

local stored, holder = number(entry, 's'), number(lease, 't')
if holder and holder ~= token then
  return refuse('outdated')
end
local now = redis.call('TIME')
now = now[1] * 1000000 + now[2]
local remembered = tonumber(ARGV[3])
local asked = tonumber(token)
if replaces ~= '' then
  if stored ~= replaces then
    return 'changed'
  end
elseif not asked then
  -- Whatever is there may have come since.
  if stored then
    return refuse('outdated')
  end
elseif stored and tonumber(stored) > asked then
  return refuse('outdated')
elseif not holder and now - asked > remembered * 1000 then
  -- What was forgotten since is not known any more.
  return refuse('outdated')
end
local stamp = asked or now
if stored then
  stamp = math.max(stamp, tonumber(stored) + (holder and 0 or 1))
end
stamp = string.format('%.0f', stamp)

-- What was forgotten under this key is remembered for as long as it was to be, also by a stamp that has come since: one that
-- expires sooner than that would let in what is older. So what is of use for a short time stays a little longer in its place.
local lasts = math.max(tonumber(ARGV[2]), math.min(stored and redis.call('PTTL', entry) or 0, remembered))

if replaces ~= '' then
  redis.call('HSET', entry, 's', stamp, unpack(ARGV, 8))
else
  if redis.call('HLEN', aside) ~= tonumber(ARGV[7]) then
    return refuse('gone')
  end
  -- First of all that it writes, as above: once a script has written, Redis does not ask any more whether there is memory left.
  redis.call('HSET', aside, 's', stamp, unpack(ARGV, 8))
  redis.call('RENAME', aside, entry)
end
redis.call('PEXPIRE', entry, lasts)

if holder then
  local waited_for = redis.call('HGET', lease, 'w')
  redis.call('DEL', lease)
  if waited_for then
    redis.pcall('PUBLISH', ARGV[4], 'stored ' .. ARGV[5])
  end
end
return 'stored'
