-- Video and large files: HLS and DASH, live or on demand, and downloads.
--
-- Key        path, and the query without tokens and session ids (TOKENS), sorted by name. A playlist keeps its token in the
--            key: packagers write the viewer's token into it, and another viewer must not get that. Parameters that change a
--            playlist (_HLS_msn, _HLS_part, _HLS_skip) always stay
-- TTL        playlists 2 s whatever the origin states, because a long one stops a live stream and 2 s is nothing to a file
--            on demand; segments the origin's, else a year; files the origin's, else a day; 404 one second, for players ask early
-- Tiers      segments in memory and on disk, not in Redis, which they would fill; files larger than BIG on disk alone, so that
--            one film does not push out a thousand segments. Without a disk tier those are not stored
-- Variants   by the origin's own `Vary`
-- Bypass     none beyond HTTP's own
-- Browsers   get `immutable` with segments where the origin gave no Cache-Control
-- Tags       `playlist`, `segment` or `file`, and `stream:/live/one/` for all that is in that folder
-- Respects   Cache-Control and its kin, Expires, Vary, Set-Cookie, as RFC 9111 says; for playlists without their lifetimes
--
-- The cache does not check tokens. Use this where something in front of it does, or where it does not matter who watches.
-- Give the bucket of a live stream `stale_on_disconnect: 10s`: the default would play an hour of yesterday's playlist.
-- A range that is not stored is all that is fetched. What came answers the ranges in it, and where the origin sends strong
-- ETags, the parts become the file.
--
-- Change first: TOKENS; SEGMENT_TTL, if an encoder that restarts counts from 1 again; SHARED_PLAYLISTS.
-- Try: tidegate dry-run -c tidegate.yaml --status 200 'http://video.example.com/live/one/index.m3u8?token=x'

local origin = require("lib/origin")
local paths = require("lib/path")

local PLAYLISTS = paths.set("m3u8 m3u mpd ism isml f4m")
local SEGMENTS = paths.set("ts m4s m4v m4a m4f mp4a cmfv cmfa cmft aac ac3 vtt webvtt dash")

local PLAYLIST_TTL = "2s"
local SEGMENT_TTL = "1y"
local FILE_TTL = "1d"
local NOT_FOUND_TTL = "1s"

-- More than the memory tier takes as it is shipped (cache.memory.max_object: 8MiB), so nothing is lost without a disk tier.
-- math.huge gives all tiers to all sizes.
local BIG = 8 * 1024 * 1024

-- Signatures and sessions of common CDNs and players. A name that is missing costs hits; one too many mixes answers up.
local TOKENS = {
  "token", "sig", "signature", "hmac", "hdnts", "hdnea", "hdntl", "st", "exp", "expires", "Expires", "Signature", "Policy",
  "Key-Pair-Id", "KeyName", "URLPrefix", "verify", "sid", "session", "session_id", "sessionid", "CMCD", "X-Amz-*",
}

-- true if playlists are the same for all viewers. Then a live stream's viewers share one copy of each.
local SHARED_PLAYLISTS = false

local function kind_of(path)
  local extension = paths.extension(path) or ""
  return PLAYLISTS[extension] and "playlist" or SEGMENTS[extension] and "segment" or "file"
end

-- The folder, which a stream has for itself. nil if it is longer than a name should be.
local function stream_of(path)
  local folder = path:match(".*/")
  return folder and #folder <= 200 and folder or nil
end

return {
  request = function(req)
    if kind_of(req.path) == "playlist" and not SHARED_PLAYLISTS then
      return { key = { req.path, req.query:without("CMCD"):sorted() } }
    end
    return { key = { req.path, req.query:without(table.unpack(TOKENS)):sorted() } }
  end,

  response = function(req, res)
    local kind = kind_of(req.path)
    local decision = { tags = { kind } }
    local stream = stream_of(req.path)
    if stream then
      table.insert(decision.tags, "stream:" .. stream)
    end
    if res.status == 404 then
      decision.ttl = NOT_FOUND_TTL
    elseif res.status == 200 and kind == "playlist" then
      -- No stale_while_revalidate: a player that gets an old playlist waits for nothing.
      decision.ttl = PLAYLIST_TTL
      decision.stale_if_error = "10s"
      decision.tiers = { "memory" }
    elseif res.status == 200 then
      if not origin.states_freshness(res) then
        decision.ttl = if kind == "segment" then SEGMENT_TTL else FILE_TTL
      end
      decision.stale_if_error = "1d"
      -- A body of unknown length counts as small; the tiers have limits of their own.
      local big = (res.content_length or 0) > BIG
      decision.tiers = if big then { "disk" } else { "memory", "disk" }
    end
    return decision
  end,

  normalize = {
    -- Playlists are text. Media is not compressed again by anybody.
    ["accept-encoding"] = tidegate.encodings("gzip"),
  },

  deliver = function(req, res, cache)
    local good = res.status == 200 or res.status == 206 or res.status == 304
    if good and kind_of(req.path) == "segment" and not res.headers["cache-control"] and not res.headers.expires then
      return { headers = { ["cache-control"] = "public, max-age=31536000, immutable" } }
    end
  end,
}
