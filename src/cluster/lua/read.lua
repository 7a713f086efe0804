-- What follows the place that the caller knows, or everything of a log that it does not know. ARGV: most records, most bytes.
local state = open()
local most, bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
local from = state.epoch == ARGV[2] and ARGV[3] or '0-0'
local records, taken = {}, 0
for _, record in ipairs(redis.call('XRANGE', stream, after(from), '+', 'COUNT', most)) do
    if taken > bytes then
        break
    end
    records[#records + 1] = record
    taken = taken + #record[2][2]
end
return { state.epoch, state.last, state.dropped, records }
