-- Adds records, and tells the nodes. ARGV: patience, most weight, channel, instance, whether others are to answer, name of the
-- node, whether to add them only if the caller knows all of the log (`1`: they may be in it already), and for each record its id, `1` if
-- it is soft, and its targets.
local state = open()
local patience, most, channel, instance, wanted, name = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8], ARGV[9]

if ARGV[10] == '1' and (state.epoch ~= ARGV[2] or state.last ~= ARGV[3]) then
    return { state.epoch, state.last, 0, live(patience) }
end

local function weight(targets)
    return #targets / 21 + 1
end

for i = 11, #ARGV, 3 do
    local id = string.format('%.0f-0', now)
    if not before(state.last, id) then
        id = after(state.last)
    end
    redis.call('XADD', stream, id, 't', ARGV[i + 2], 'r', ARGV[i], 's', ARGV[i + 1], 'n', name)
    state.last, state.count, state.weight = id, state.count + 1, state.weight + weight(ARGV[i + 2])
end
while state.weight > most and state.count > 1 do
    local gone = {}
    for _, record in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', 100)) do
        if state.weight <= most or state.count - #gone <= 1 then
            break
        end
        gone[#gone + 1] = record[1]
        state.weight = state.weight - weight(record[2][2])
    end
    if #gone == 0 then
        break
    end
    redis.call('XDEL', stream, unpack(gone))
    state.dropped, state.count = gone[#gone], state.count - #gone
end
redis.call('HSET', head, 'last', state.last, 'dropped', state.dropped, 'count', state.count, 'weight', state.weight)
redis.call('PUBLISH', channel, table.concat({ 'purged', state.epoch, state.last, instance, wanted }, ' '))
return { state.epoch, state.last, 1, live(patience) }
