-- Sends a piece of a long body ahead, to where nobody looks. What is never put together goes by itself.
--
-- KEYS: pieces
-- ARGV: field, bytes, milliseconds
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return redis.call('PEXPIRE', KEYS[1], ARGV[3])
