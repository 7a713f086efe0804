-- CMS with logins: WordPress, Drupal, WooCommerce and their like.
--
-- Key        scheme, path, and the query without tracking parameters, sorted by name
-- TTL        only where the origin states none: assets a day, pages 5 minutes and one longer while a new one is fetched, 404 a
--            minute. When the origin fails, copies serve on for a day
-- Variants   by the origin's own `Vary`. Cookie is dropped for visitors who have none that counts, also on the way to the
--            origin, so that `Vary: Cookie` (Drupal) means one variant; Accept-Encoding is br, gzip or identity
-- Bypass     login pages, admin, cart, checkout, account (PRIVATE_PATHS); previews and actions in the query (PRIVATE_QUERY);
--            visitors with a session, a cart, a password for a post or a comment of theirs (PERSONAL_COOKIES), except for
--            assets; Authorization
-- Override   none. A response that sets a cookie is never stored, even where its origin states a lifetime
-- Tags       `page` or `asset`, `section:blog` for /blog/…, and what Surrogate-Key or Cache-Tag names
-- Respects   Cache-Control and its kin, Expires, Vary, Set-Cookie, Surrogate-Key, Cache-Tag, Xkey
--
-- Change first: PRIVATE_PATHS and PERSONAL_COOKIES. A plugin that personalises a page by a cookie of its own needs it listed.
-- Forms of visitors without a session lose their cookies on the way too: list what they need.
-- Try: tidegate dry-run -c tidegate.yaml -H 'cookie: wordpress_logged_in_1=x' http://www.example.com/

local origin = require("lib/origin")
local paths = require("lib/path")
local query = require("lib/query")

-- `*` stands for any characters.
local PRIVATE_PATHS = {
  "/wp-admin*", "/wp-login.php*", "/wp-signup.php*", "/wp-activate.php*", "/wp-cron.php*", "/xmlrpc.php*", -- WordPress
  "/cart*", "/basket*", "/checkout*", "/my-account*", "/wc-api/*", -- shops
  "/user", "/user/*", "/admin", "/admin/*", "/node/add*", "*/edit", "/system/files/*", "/update.php*", -- Drupal
}

-- Parameters that make a page someone's own, or make it do something.
local PRIVATE_QUERY = { "preview*", "add-to-cart", "wc-ajax", "replytocom", "customize_*", "doing_wp_cron", "_wpnonce" }

local PERSONAL_COOKIES = {
  "wordpress_*", "wp-postpass_*", "wp_woocommerce_session_*", "woocommerce_*", "edd_*", -- WordPress and its shops
  "comment_author_*", -- somebody who wrote a comment sees it before others do
  "SESS*", "SSESS*", "NO_CACHE", -- Drupal
  "PHPSESSID", "laravel_session", "XSRF-TOKEN", "csrftoken", "sessionid", -- what else runs on the same host
}

-- Not pdf, zip and the like: those may be downloads that somebody paid for.
local ASSETS = paths.set("css js mjs map svg png jpg jpeg gif webp avif ico woff woff2 ttf otf eot")

local function is_personal(name)
  for _, pattern in ipairs(PERSONAL_COOKIES) do
    if tidegate.glob(pattern, name) then
      return true
    end
  end
  return false
end

local function is_asset(path)
  return ASSETS[paths.extension(path) or ""] == true
end

return {
  normalize = {
    -- All cookies if one of them counts, none if none does. `req.headers.cookie` below is what is left.
    cookie = function(cookie)
      for _, pair in ipairs((cookie or ""):split(";")) do
        if is_personal(pair:match("^%s*([^=%s]*)")) then
          return cookie
        end
      end
      return nil
    end,
    ["accept-encoding"] = tidegate.encodings("br", "gzip"),
  },

  request = function(req)
    if req.headers.authorization then
      return { bypass = "authorized" }
    elseif paths.matches(req.path, PRIVATE_PATHS) then
      return { bypass = "private-path" }
    elseif #req.query:only(table.unpack(PRIVATE_QUERY)) > 0 then
      return { bypass = "private-query" }
    elseif req.headers.cookie and not is_asset(req.path) then
      return { bypass = "session" }
    end
    -- The scheme, because a CMS redirects http to https: under one key that would become a loop.
    return { key = { req.scheme, req.path, query.cleaned(req.query) } }
  end,

  response = function(req, res)
    local asset = is_asset(req.path)
    local is_html = tidegate.glob("text/html*", tidegate.lower(res.content_type or ""))
    if res.headers["set-cookie"] then
      return { store = false, reason = "set-cookie" }
    elseif req.headers.cookie and (is_html or res.status ~= 200) then
      -- /account/x.css can be a page with a name on it: what a session gets is stored only if it is an asset indeed.
      return { store = false, reason = "session" }
    end
    local decision = { tags = { asset and "asset" or "page" } }
    local section = paths.segment(req.path, 1)
    if section then
      table.insert(decision.tags, "section:" .. section)
    end
    origin.add_tags(decision.tags, res)
    local stated = origin.states_freshness(res)
    if res.status == 200 then
      if not stated then
        decision.ttl = if asset and not is_html then "1d" else "5m"
        decision.stale_while_revalidate = "1m"
      end
      decision.stale_if_error = "1d"
    elseif res.status == 404 and not stated then
      decision.ttl = "1m"
    end
    return decision
  end,
}
