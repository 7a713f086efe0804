-- Keeps a lease for longer.
--
-- KEYS: lease
-- ARGV: token, milliseconds
-- Answers whether it is still ours.
if redis.pcall('HGET', KEYS[1], 't') ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
