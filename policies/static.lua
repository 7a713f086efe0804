-- Static site: pages, assets and pictures, from a bucket or a web server. Not for sites with logins: see cms.lua.
--
-- Key        scheme, path, and the query without tracking parameters (utm_*, gclid, fbclid, …), sorted by name
-- TTL        only where the origin states none, and S3 states none. Fingerprinted assets (app.3f2a9c1b.js) a year; other
--            assets an hour, and a day longer while a new copy is fetched; pages a minute, and ten longer; 404 and 410 30 s.
--            When the origin fails, copies serve on: assets a week, pages a day
-- Variants   those of the origin's `Vary`. Accept-Encoding is `br`, `gzip` or `identity` by then, so there are three
-- Bypass     none beyond HTTP's own (POST and the like)
-- Browsers   get a Cache-Control where the origin gave none, see BROWSER below
-- Tags       `page`, `asset` or `fingerprinted`
-- Respects   Cache-Control, CDN-Cache-Control, Surrogate-Control, Expires, Vary, Set-Cookie, all as RFC 9111 says
--
-- Change first: FINGERPRINTED, for what your build writes, and TTL.
-- Try: tidegate dry-run -c config/tidegate.yaml --status 200 'http://localhost/style.css?utm_source=mail'

local origin = require("lib/origin")
local paths = require("lib/path")
local query = require("lib/query")

-- Folders in which a build tool puts a hash into each name. Vite writes to /assets/: add "/assets/*" if nothing else is
-- in there.
local FINGERPRINTED = { "/_next/static/*", "/_nuxt/*", "/_astro/*", "/_app/immutable/*" }

-- Elsewhere, code and fonts whose name has a hash. Pictures are not among them: names like 20240131 look like one.
local HASHED = paths.set("js mjs css map wasm woff woff2")

-- What a page is made of. Everything else counts as a page, which is the careful side.
local ASSETS = paths.set([[
  css js mjs map wasm woff woff2 ttf otf eot
  svg png jpg jpeg gif webp avif ico mp3 mp4 webm ogg pdf zip
]])

-- Scripts that decide about all others, and must be able to change.
local WORKERS = { ["sw.js"] = true, ["service-worker.js"] = true, ["serviceworker.js"] = true }

-- Made once, and returned to the engine as they are: a decision need not be a new table each time.
local TTL = {
  fingerprinted = { ttl = "1y", tags = { "fingerprinted" } },
  asset = { ttl = "1h", stale_while_revalidate = "1d", stale_if_error = "7d", tags = { "asset" } },
  page = { ttl = "1m", stale_while_revalidate = "10m", stale_if_error = "1d", tags = { "page" } },
}

-- The same with the origin's own lifetime.
local STATED = {
  fingerprinted = { tags = { "fingerprinted" } },
  asset = { stale_if_error = "7d", tags = { "asset" } },
  page = { stale_if_error = "1d", tags = { "page" } },
}

-- A purge does not reach browsers, so they may keep only what has a new name when it changes. `no-cache` lets them keep a
-- page and ask each time whether it is still good; the answer is a 304 from here.
local BROWSER = {
  fingerprinted = "public, max-age=31536000, immutable",
  asset = "public, max-age=300",
  page = "no-cache",
}

-- `app.3f2a9c1b.js` and `app-3f2a9c1b.js`: eight hexadecimal digits or more, letters and numbers among them.
local function has_hash(path)
  local hash = paths.name(path):match("[.-](%x+)%.%w+$")
  return hash ~= nil and #hash >= 8 and hash:find("%d") ~= nil and hash:find("%a") ~= nil
end

local function kind_of(path)
  local extension = paths.extension(path) or ""
  if paths.matches(path, FINGERPRINTED) or (HASHED[extension] and has_hash(path)) then
    return "fingerprinted"
  elseif ASSETS[extension] and not WORKERS[paths.name(path)] then
    return "asset"
  end
  return "page"
end

return {
  request = function(req)
    -- The scheme, because a server may answer http with a redirect to https: under one key that would become a loop.
    return { key = { req.scheme, req.path, query.cleaned(req.query) } }
  end,

  response = function(req, res)
    if res.status == 200 then
      local rules = origin.states_freshness(res) and STATED or TTL
      return rules[kind_of(req.path)]
    elseif res.status == 404 or res.status == 410 then
      -- Short, so that a file that was forgotten shows up soon after it was added. S3 answers 403 unless its key may list
      -- the bucket; add 403 here if that is how yours says "not found".
      return { ttl = "30s", tags = { "page" } }
    end
    -- Redirects and errors: RFC 9111 decides, which stores them only where the origin states how long.
  end,

  normalize = {
    -- What browsers send differs in dozens of ways and means one of three things.
    ["accept-encoding"] = tidegate.encodings("br", "gzip"),
  },

  deliver = function(req, res, cache)
    local good = res.status == 200 or res.status == 206 or res.status == 304
    if good and not res.headers["cache-control"] and not res.headers.expires then
      return { headers = { ["cache-control"] = BROWSER[kind_of(req.path)] } }
    end
  end,
}
