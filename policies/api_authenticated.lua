-- API behind tokens: the cache stays out, but for a list of endpoints that answer every token alike.
--
-- Key        of a listed endpoint: path, and the query sorted by name
-- TTL        the origin's; where it states none, 10 s for 200s of a listed endpoint
-- Variants   by the origin's own `Vary`
-- Bypass     requests with Authorization, X-Api-Key or Cookie for everything that is not listed; requests to a listed
--            endpoint without a token, so that the origin can refuse them; paths that an origin may read in two ways.
--            Requests without any of these fields to other endpoints go by RFC 9111
-- Override   "authorization" for listed endpoints, and nothing else: `private`, `no-store` and Set-Cookie still win
-- Tags       `shared`
-- Respects   Cache-Control and its kin, Expires, ETag, Vary, Set-Cookie, as RFC 9111 says
--
-- Know what this means: the origin checks the token of the request that fills an entry, and of no other until it expires.
-- Until then, anyone who sends any token is served. List only what every token may see. Where answers differ by token, set
-- PER_TOKEN: each token then has entries of its own, and a revoked one keeps its for as long as their TTL.
--
-- Change first: SHARED.
-- Try: tidegate dry-run -c tidegate.yaml -H 'authorization: Bearer x' --status 200 'http://api.example.com/api/catalogue/7'

local origin = require("lib/origin")
local paths = require("lib/path")

-- `*` stands for any characters, slashes included: "/*/rates" would list /v1/users/7/rates as well.
local SHARED = { "/api/catalogue", "/api/catalogue/*", "/api/countries", "/api/rates" }

-- An entry for each token. The hash keeps tokens out of keys, which people and logs see. It has 64 bits and no secret: two
-- tokens do not meet by chance, and nobody can aim at a token that he does not know.
local PER_TOKEN = false

local function is_shared(req)
  return paths.matches(req.path, SHARED) and not paths.is_ambiguous(req.path)
end

return {
  request = function(req)
    local token = req.headers.authorization
    if req.headers["x-api-key"] or req.headers.cookie then
      -- The override is about Authorization alone. What else a client proves itself with stays outside.
      return { bypass = "credentials" }
    elseif not is_shared(req) then
      return token and { bypass = "authorized" }
    elseif not token then
      return { bypass = "no-token" }
    end
    local key = { req.path, req.query:sorted() }
    if PER_TOKEN then
      table.insert(key, tidegate.hash(token))
    end
    return { key = key }
  end,

  response = function(req, res)
    if res.status ~= 200 then
      -- A 401 for one token must not answer another one.
      return { store = false, reason = "error" }
    elseif not is_shared(req) then
      return nil
    end
    local decision = { override = { "authorization" }, tags = { "shared" } }
    if not origin.states_freshness(res) then
      decision.ttl = "10s"
    end
    return decision
  end,

  normalize = {
    ["accept-encoding"] = tidegate.encodings("br", "gzip"),
  },
}
