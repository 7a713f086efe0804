-- Showcase: every feature of a policy once, in the setting of a shop. To be read, not to be used: take what you need.
--
-- Key        scheme, path, the query without tracking parameters, and two parameters reduced to what they may be
-- TTL        by status, content type and headers, see `response`
-- Variants   by language, coding and the cookie `theme`
-- Bypass     carts, tokens, internal networks, and clients that ask not to be cached
-- Override   "set-cookie" and "private", for one path whose origin is known to say so by mistake
-- Respects   Cache-Control and its kin wherever `ttl` is not given, and whatever is not in `override` always
--
-- Change first: nothing; docs/policies.md explains what is here.
-- Try: tidegate dry-run -c tidegate.yaml -H 'accept-language: de-AT' --status 200 --response-header 'content-type: text/html' \
--        'http://shop.example.com/products/7?page=02&utm_source=x'

-- `require` loads another file of the policies folder, and nothing else. It runs once for each worker thread.
local paths = require("lib/path")
local query = require("lib/query")

-- The top level runs once for each worker thread and version, not for each request: build tables here.
local CATALOGUE = { "/products/*", "/categories/*" }
local PAGE_SIZES = { 12, 24, 48 }

-- The library is there as well. Durations are seconds as soon as they are numbers.
local QUARTER = tidegate.duration("15m")

-- A normaliser can also be called: `only_theme("id=1; theme=dark")` is `theme=dark`.
local only_theme = tidegate.cookies("theme")

-- 10.0.0.0/8 and the loopback. `client_ip` is text, without a port.
local function is_internal(address)
  return tidegate.glob("10.*", address) or address == "127.0.0.1" or address == "::1"
end

-- A number from 1 to 100, so that ?page=02, ?page=2.0 and ?page=2 are one entry and nobody can make a million.
local function page_of(value)
  local number = tonumber(value or 1)
  return number and math.clamp(math.floor(number), 1, 100) or 1
end

-- Seconds since the response was changed, if it says so.
local function unchanged_for(req, res)
  local modified = tidegate.date(res.headers["last-modified"] or "")
  return modified and req.now - modified
end

return {
  -- 1. Before anything else, header fields are reduced. From here on this is what the policy sees, what variants are told
  -- apart by, and what the origin gets.
  normalize = {
    ["accept-encoding"] = tidegate.encodings("br", "gzip"),
    ["accept-language"] = tidegate.languages("en", "fr", "de"),
    accept = tidegate.types("text/html", "application/json"),

    -- A function of one's own gets the field's value or nil, and returns the new one or nil for "absent".
    ["user-agent"] = function(agent)
      return if agent and tidegate.glob("*mobile*", tidegate.lower(agent)) then "mobile" else "desktop"
    end,

    -- The cart must survive, for requests that bypass the cache go to the origin with what is left here.
    cookie = function(cookie)
      if cookie and cookie:find("cart=", 1, true) then
        return cookie
      end
      return only_theme(cookie)
    end,
  },

  -- 2. Before lookup: keep the cache out and say why, or choose the key. Nothing returned: look up under the URI as sent.
  request = function(req)
    if req.headers.authorization then
      return { bypass = "authorized" }
    elseif req.cookies.cart then
      return { bypass = "cart" }
    elseif req.headers["x-no-cache"] and is_internal(req.client_ip) then
      return { bypass = "asked" }
    elseif tostring(req.query) == "" then
      -- A key's parts are strings, numbers, booleans and queries. Bucket and host come before them.
      return { key = { req.scheme, req.path } }
    end

    -- Query methods return queries and chain. Values are as sent; tidegate.decode undoes percent-encoding.
    local search = tidegate.lower(tidegate.decode(req.query.q or ""))
    local rest = query.cleaned(req.query:without("page", "size", "q"))
    return {
      key = {
        req.scheme,
        req.path,
        page_of(req.query.page),
        query.step(req.query.size, PAGE_SIZES) or PAGE_SIZES[1],
        search,
        rest,
      },
    }
  end,

  -- 3. When the origin answered. What is left out is decided by RFC 9111.
  response = function(req, res)
    if res.status >= 500 then
      -- Nothing: a server error without a lifetime is not stored, and a stale copy may stand in for it.
      return nil
    elseif res.status == 404 then
      return { ttl = "30s", tags = "not-found" }
    elseif res.status ~= 200 then
      return { store = false, reason = "status" }
    elseif (res.content_length or 0) > 1e9 then
      return { store = false, reason = "huge" }
    elseif req.path == "/legacy/prices.json" then
      -- The framework of this endpoint starts a session for everybody and says `private`. Both are set aside by name; all
      -- other rules hold. Be sure that the body is the same for everybody.
      return { ttl = 60, override = { "set-cookie", "private" }, tags = { "prices" } }
    end

    local decision = {
      -- A hash is short, and good for a name. It is no good for a key: who chooses the text can make two of one hash.
      tags = { "shop", "path:" .. tidegate.hash(req.path) },
      vary = { "accept-language", "cookie", "user-agent" },
      stale_while_revalidate = "1m",
      stale_if_error = "1d",
    }
    if paths.matches(req.path, CATALOGUE) then
      table.insert(decision.tags, "catalogue")
      table.insert(decision.tags, "section:" .. (paths.segment(req.path, 1) or "none"))
      decision.ttl = QUARTER
      -- What has not changed for a month may stay longer, on disk where there is one.
      if (unchanged_for(req, res) or 0) > tidegate.duration("30d") then
        decision.ttl = "1d"
        decision.tiers = { "memory", "disk" }
      end
    end
    return decision
  end,

  -- 4. On a stored entry, before it is served. Nothing returned: served if it is fresh.
  hit = function(req, entry)
    -- Opening hours: prices are asked about again from 8 to 18 o'clock UTC, once they are ten seconds old.
    local hour = math.floor(req.now / 3600) % 24
    if table.find(entry.tags, "prices") and hour >= 8 and hour < 18 and entry.age > 10 then
      return { revalidate = true }
    end
    if entry.headers["x-app-version"] == "broken" then
      return { miss = true }
    end
  end,

  -- 5. On the way out: set a field, or remove it with false.
  deliver = function(req, res, cache)
    return {
      headers = {
        ["x-cache"] = if cache.reason then cache.status .. ", " .. cache.reason else cache.status,
        ["x-powered-by"] = false,
        ["x-bucket"] = req.bucket,
      },
    }
  end,
}
