-- Gives a lease back, and tells those who wait what came of it.
--
-- KEYS: lease
-- ARGV: token, channel, id, outcome
-- Answers whether it was still ours.
local held = redis.pcall('HMGET', KEYS[1], 't', 'w')
if held.err or held[1] ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
if held[2] then
  redis.pcall('PUBLISH', ARGV[2], ARGV[4] .. ' ' .. ARGV[3])
end
return 1
