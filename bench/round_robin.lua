-- For wrk: asks for PATH/0, PATH/1, … in turn, so that no cache of open files holds all of them.
-- Arguments: how many there are, and the query.

local requests, last = {}, 0

function init(arguments)
  for i = 0, arguments[1] - 1 do
    requests[i + 1] = wrk.format("GET", wrk.path .. "/" .. i .. arguments[2])
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end
