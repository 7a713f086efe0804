-- Images that the origin resizes and converts: /albums/alps/1.jpg?w=640&h=384&fit=cover&q=75&fmt=webp
--
-- Key        path, and w, h, fit, q and fmt with sizes and qualities raised to a step, so that a picture has a few hundred
--            entries at most, whatever people ask for. A request between two steps (w=641) is answered with the stored
--            image of the next one (w=768); if that is not stored, the origin's answer to w=641 passes through and is not
--            kept, because the next one to ask for w=768 must not get it. Link to steps, then all of it is stored
-- TTL        30 days where the origin states none, a day longer while a new one is fetched, a week if the origin fails;
--            404 for a minute
-- Variants   by Accept, reduced to image/avif, image/webp or */*, unless `fmt` says which format
-- Bypass     a query with another parameter than these and the tracking ones: nobody knows what it does to the image
-- Tags       `images`, and `album:NAME` for /albums/NAME/…
-- Respects   Cache-Control and its kin, Expires, Vary, Set-Cookie, as RFC 9111 says
--
-- Change first: SIZES and QUALITIES, for the sizes of your pages; album_of, for your paths.
-- Try: tidegate dry-run -c tidegate.yaml -H 'accept: image/webp,*/*' --status 200 --response-header 'content-type: image/webp' \
--        'http://img.example.com/albums/alps/1.jpg?w=640'

local origin = require("lib/origin")
local paths = require("lib/path")
local query = require("lib/query")

local SIZES = { 64, 128, 256, 384, 512, 640, 768, 1024, 1280, 1600, 1920, 2560, 3840 }
local QUALITIES = { 40, 60, 75, 85, 95 }
local FITS = paths.set("cover contain fill inside outside")
local FORMATS = paths.set("avif webp jpeg png")

local function allowed(value, set)
  return value and set[value] and value
end

-- The query as the origin's documentation would write it: known values, at a step, sorted by name.
local function canonical(given)
  local parts = {}
  local function add(name, value)
    if value then
      table.insert(parts, name .. "=" .. value)
    end
  end
  add("fit", allowed(given.fit, FITS))
  add("fmt", allowed(given.fmt, FORMATS))
  add("h", query.step(given.h, SIZES))
  add("q", query.step(given.q, QUALITIES))
  add("w", query.step(given.w, SIZES))
  return table.concat(parts, "&")
end

-- Whether the origin was asked for just what the key says. The text is compared, so that `w=640&w=9999`, `w=0640` and
-- `w=6%340` are not, however the origin reads them.
local function is_canonical(given)
  return canonical(given) == tostring(given:only("fit", "fmt", "h", "q", "w"):sorted())
end

local function album_of(path)
  return paths.segment(path, 1) == "albums" and paths.segment(path, 2) or nil
end

return {
  request = function(req)
    local others = query.cleaned(req.query:without("fit", "fmt", "h", "q", "w"))
    if #others > 0 then
      return { bypass = "unknown-parameter" }
    end
    return { key = { req.path, canonical(req.query) } }
  end,

  response = function(req, res)
    if not is_canonical(req.query) then
      return { store = false, reason = "odd-size" }
    end
    local decision = { tags = { "images" } }
    local album = album_of(req.path)
    if album then
      table.insert(decision.tags, "album:" .. album)
    end
    if res.status == 404 then
      decision.ttl = "1m"
    elseif res.status == 200 then
      -- An error page that says 200 would stay for a month.
      if not tidegate.glob("image/*", tidegate.lower(res.content_type or "")) then
        return { store = false, reason = "not-an-image" }
      end
      if not origin.states_freshness(res) then
        decision.ttl = "30d"
        decision.stale_while_revalidate = "1d"
      end
      decision.stale_if_error = "7d"
      if not allowed(req.query.fmt, FORMATS) then
        decision.vary = { "accept" }
      end
    end
    return decision
  end,

  normalize = {
    -- Wildcards name no format: clients that cannot read AVIF send */* as well. The origin gets the reduced field, so that
    -- it cannot choose by anything that the cache does not know.
    accept = tidegate.types("image/avif", "image/webp"),
  },
}
