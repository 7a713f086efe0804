-- Public JSON API: the same answer for everybody who sends the same URL and language.
--
-- Key        path, and the whole query sorted by name (?b=1&a=2 is ?a=2&b=1)
-- TTL        the origin's. Where it states none, an answer is stored only to be asked about again (DEFAULT_TTL = 0), for an
--            API that says nothing may mean anything: not even RFC 9111's guess from Last-Modified is made. Set it to "1s"
--            or "5s" if your answers depend on path, query and language alone: that much spares an origin most of a rush.
--            When the origin fails, answers that had a lifetime serve on for ten minutes
-- Errors     never stored, and neither are redirects, whatever they state
-- Variants   by Accept-Language where the answer has a Content-Language, and by the origin's own `Vary`. The field is
--            reduced to one of LANGUAGES before the origin sees it
-- Bypass     requests with Authorization or X-Api-Key; api_authenticated.lua caches some of them
-- Tags       `api`, and `resource:users` for /api/users/…
-- Respects   Cache-Control and its kin, Expires, ETag, Vary, Set-Cookie, as RFC 9111 says
--
-- Change first: LANGUAGES (the origin gets no other, and the first one for clients that want none of them), DEFAULT_TTL.
-- Try: tidegate dry-run -c config/tidegate.yaml --status 200 --response-header 'cache-control: max-age=60' \
--        'http://localhost/api/users/1?b=1&a=2'

local origin = require("lib/origin")
local paths = require("lib/path")

local LANGUAGES = { "en", "fr", "de" }
local DEFAULT_TTL = 0

return {
  request = function(req)
    if req.headers.authorization or req.headers["x-api-key"] then
      return { bypass = "authorized" }
    end
    return { key = { req.path, req.query:sorted() } }
  end,

  response = function(req, res)
    if res.status >= 300 then
      return { store = false, reason = if res.status >= 400 then "error" else "redirect" }
    end
    local decision = { tags = { "api" } }
    local resource = paths.segment(req.path, 2)
    if resource then
      table.insert(decision.tags, "resource:" .. resource)
    end
    if origin.states_freshness(res) then
      -- Held back by the engine where the origin says must-revalidate.
      decision.stale_if_error = "10m"
    else
      decision.ttl = DEFAULT_TTL
    end
    if res.headers["content-language"] then
      decision.vary = { "accept-language" }
    end
    return decision
  end,

  normalize = {
    ["accept-encoding"] = tidegate.encodings("br", "gzip"),
    ["accept-language"] = tidegate.languages(table.unpack(LANGUAGES)),
  },
}
