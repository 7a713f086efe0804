-- A node says that it lives, and how far it has come, and hears of the others. ARGV: patience, instance, name.
local state = open()
-- Before it says so: whether anybody did lately.
live(tonumber(ARGV[4]))
redis.call('HSET', nodes, ARGV[5], table.concat({ string.format('%.0f', now), ARGV[2], ARGV[3], ARGV[6] }, ' '))
return { state.epoch, state.last, live(tonumber(ARGV[4])) }
