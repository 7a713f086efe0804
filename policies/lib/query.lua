-- Helpers for query strings, for `require("lib/query")`.

local query = {}

-- Parameters that tell advertisers where a visitor came from, and change nothing in the answer. `*` stands for any
-- characters. Names that some sites use for something else (`ref`, `source`) are left out on purpose.
query.TRACKING = {
  "utm_*", -- Google Analytics, Matomo and most newsletters
  "gclid", "gclsrc", "gbraid", "wbraid", "dclid", -- Google Ads
  "_ga", "_gl", -- Google Analytics across domains
  "fbclid", -- Facebook
  "msclkid", -- Microsoft
  "ttclid", "twclid", "li_fat_id", "yclid", "igshid", -- TikTok, X, LinkedIn, Yandex, Instagram
  "mc_cid", "mc_eid", -- Mailchimp
  "_hsenc", "_hsmi", -- HubSpot
  "mtm_*", "pk_*", -- Matomo
}

-- The query without tracking parameters, in the order of names: `?b=1&utm_id=2&a=3` is `a=3&b=1`. Parameters of one
-- name keep their order, because for `?sort=x&sort=y` it may count.
function query.cleaned(given)
  if #given == 0 then
    return given
  end
  return given:without(table.unpack(query.TRACKING)):sorted()
end

-- The smallest step that is not below the value, or the largest step there is. `steps` rises. What is no number has no
-- step: nil.
function query.step(value, steps)
  local number = tonumber(value)
  if not number then
    return nil
  end
  for _, step in ipairs(steps) do
    if number <= step then
      return step
    end
  end
  return steps[#steps]
end

return query
