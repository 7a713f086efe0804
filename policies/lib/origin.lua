-- What an origin said about caching, for `require("lib/origin")`.

local origin = {}

local FIELDS = { "cdn-cache-control", "surrogate-control", "cache-control" }

-- Whether the origin stated how long the response is fresh. A policy that gives no `ttl` then leaves it at that.
--
-- `no-store`, `private` and `no-cache` are not looked at: they hold whatever `ttl` a policy gives.
function origin.states_freshness(res)
  for _, field in ipairs(FIELDS) do
    local value = res.headers[field]
    if value then
      value = tidegate.lower(value)
      if value:find("max-age", 1, true) or value:find("s-maxage", 1, true) then
        return true
      end
    end
  end
  return res.headers.expires ~= nil
end

-- Names that a purge can use, as origins with purge modules send them: `Surrogate-Key: a b` or `Cache-Tag: a,b`. They are
-- added to the list. Names that are not plain ASCII text, or that are too long, are left out.
function origin.add_tags(list, res)
  for _, field in ipairs({ "surrogate-key", "cache-tag", "cache-tags", "xkey" }) do
    local value = res.headers[field]
    if value and #value <= 16384 then
      for tag in value:gmatch("[^%s,]+") do
        if #tag <= 100 and not tag:find("[^%w%p]") then
          table.insert(list, tag)
        end
      end
    end
  end
  return list
end

return origin
