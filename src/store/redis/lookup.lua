-- Looks an entry up, and takes the lease of its key if there is none. One step, so that of two nodes only one takes it.
--
-- KEYS: entry, lease
-- ARGV: node ('': no lease is wanted), milliseconds of a lease, stamp that is known already ('': none), most fields, longest value
-- Answers what there is, when that was asked in microseconds, and whether a foreign value was at the key of the entry:
-- {'entry', asked, 0, fields and values}, {'miss', asked, foreign}, {'held', asked, foreign, milliseconds left, node},
-- {'lease', asked, foreign, token}
local entry, lease = KEYS[1], KEYS[2]
local foreign, stamp = 0, nil
local asked = redis.call('TIME')
asked = asked[1] * 1000000 + asked[2]

local kind = redis.call('TYPE', entry).ok
if kind == 'hash' then
  local s = redis.call('HGET', entry, 's')
  local fields = redis.call('HLEN', entry)
  if s and #s <= 16 and string.find(s, '^%d+$') and fields <= tonumber(ARGV[4]) then
    stamp = s
    -- With the stamp alone it says when it was forgotten.
    if fields > 1 and s ~= ARGV[3] then
      local all, longest = redis.call('HGETALL', entry), 0
      for i = 2, #all, 2 do
        longest = math.max(longest, #all[i])
      end
      -- Nobody has to take in what is none of ours.
      if longest <= tonumber(ARGV[5]) then
        return { 'entry', string.format('%.0f', asked), 0, all }
      end
      foreign = 1
    end
  else
    foreign = 1
  end
elseif kind ~= 'none' then
  foreign = 1
end

local token = string.format('%.0f', stamp and math.max(asked, tonumber(stamp) + 1) or asked)
asked = string.format('%.0f', asked)
if ARGV[1] == '' then
  return { 'miss', asked, foreign }
end
local held = redis.pcall('HMGET', lease, 't', 'n')
if held.err then
  redis.call('DEL', lease)
  held = {}
end
if held[1] then
  redis.pcall('HSET', lease, 'w', '1')
  local left, longest = redis.call('PTTL', lease), tonumber(ARGV[2])
  -- Nobody takes one for longer: whoever wrote that is none of us.
  if left < 0 or left > longest then
    redis.call('PEXPIRE', lease, longest)
    left = longest
  end
  return { 'held', asked, foreign, left, held[2] or '' }
end
-- Without memory for a lease, everybody fetches.
local taken = redis.pcall('HSET', lease, 't', token, 'n', ARGV[1])
if type(taken) == 'table' and taken.err then
  return { 'miss', asked, foreign }
end
redis.call('PEXPIRE', lease, ARGV[2])
return { 'lease', asked, foreign, token }
