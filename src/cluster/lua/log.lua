-- The log of purges; begins each of the scripts that use it.
-- KEYS: the stream, its head, the nodes. ARGV: number of a log to begin, log and place that the caller knows, then its own.
--
-- head: epoch (which log it is), last (its latest record), dropped (the latest that was taken out for want of room),
-- count (records in the stream), weight (things that they name, and one for each), since (from when on it is known who lives).
local stream, head, nodes = KEYS[1], KEYS[2], KEYS[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function parts(id)
    local ms, count = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(ms) or 0, tonumber(count) or 0
end

local function before(a, b)
    local a_ms, a_count = parts(a)
    local b_ms, b_count = parts(b)
    return a_ms < b_ms or (a_ms == b_ms and a_count < b_count)
end

-- The id after this one. Counts stay below 2^20, so that nodes can hold an id in 64 bits.
local function after(id)
    local ms, count = parts(id)
    if count + 1 < 1048576 then
        return string.format('%.0f-%.0f', ms, count + 1)
    end
    return string.format('%.0f-0', ms + 1)
end

local function is_id(text)
    return text and #text <= 24 and string.match(text, '^%d+%-%d+$')
end

local function is_epoch(text)
    return text and string.match(text, '^[1-9]%d*$') and (#text < 20 or (#text == 20 and text <= '18446744073709551615'))
end

local function is_number(text)
    return text and string.match(text, '^%-?%d+%.?%d*$')
end

-- What somebody else has put at one of the keys goes.
local function is_a(kind, key)
    local found = redis.call('TYPE', key).ok
    if found ~= kind and found ~= 'none' then
        redis.call('DEL', key)
        return false
    end
    return true
end

-- Whether it is certain that the caller knows nothing that is not there: what it knows may have been lost, and something else put in
-- its place.
local function is_known(state, epoch, known)
    if state.epoch ~= epoch or known == '0-0' then
        return true
    end
    if before(state.last, known) then
        return false
    end
    return not before(state.dropped, known) or #redis.call('XRANGE', stream, known, known) == 1
end

-- The head of the log. Another log begins if there is none, if the stream is not what was put into it (it was evicted, or somebody
-- changed it), or if the caller knows something of it that is not there (a replica took over that had not got everything).
local function open()
    local is_ours = is_a('stream', stream)
    is_ours = is_a('hash', head) and is_ours
    is_a('hash', nodes)
    if is_ours then
        local epoch, last, dropped, count, weight =
            unpack(redis.call('HMGET', head, 'epoch', 'last', 'dropped', 'count', 'weight'))
        if is_epoch(epoch) and is_id(last) and is_id(dropped) and is_number(count) and is_number(weight)
            and tonumber(count) == redis.call('XLEN', stream) then
            local state =
                { epoch = epoch, last = last, dropped = dropped, count = tonumber(count), weight = tonumber(weight) }
            if is_known(state, ARGV[2], ARGV[3]) then
                return state
            end
        end
    end
    redis.call('DEL', stream, head)
    redis.call('HSET', head, 'epoch', ARGV[1], 'last', '0-0', 'dropped', '0-0', 'count', 0, 'weight', 0)
    return { epoch = ARGV[1], last = '0-0', dropped = '0-0', count = 0, weight = 0 }
end

-- Each node that was heard of within so many milliseconds: its instance, how long ago, and what it said. The others go. And for
-- how many milliseconds there may be others that live: if nobody said so for a while, it was Redis that was away, or its clock
-- was changed, or the nodes are lost; those that live say so again within `GRACE`.
local QUIET, GRACE = 2500, 3000
local function live(patience)
    local found, all, latest = {}, redis.call('HGETALL', nodes), 0
    for i = 1, #all, 2 do
        local said, rest = string.match(all[i + 1], '^(%d+)( .*)$')
        said = tonumber(said) or 0
        if said > now then
            -- The clock went back.
            said = now
            redis.call('HSET', nodes, all[i], string.format('%.0f', now) .. rest)
        else
            latest = math.max(latest, said)
        end
        if now - said > patience then
            redis.call('HDEL', nodes, all[i])
        else
            found[#found + 1] = { all[i], string.format('%.0f', now - said), all[i + 1] }
        end
    end
    local since = redis.call('HGET', head, 'since')
    if now - latest > QUIET or not is_number(since) or tonumber(since) > now then
        since = string.format('%.0f', now)
        redis.call('HSET', head, 'since', since)
    end
    return found, string.format('%.0f', math.max(tonumber(since) + GRACE - now, 0))
end
