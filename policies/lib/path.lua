-- Helpers for paths, for `require("lib/path")`. Paths are as sent: nothing is decoded.

local path = {}

-- A set of extensions from a text: `path.set("css js")` has `css` and `js`.
function path.set(text)
  local set = {}
  for word in text:gmatch("%S+") do
    set[word] = true
  end
  return set
end

-- What follows the last slash.
function path.name(given)
  return given:match(".*/(.*)") or given
end

-- The extension in lower case, without its dot: `css` for `/a/Style.CSS`, nil for `/a.b/c`.
function path.extension(given)
  local extension = path.name(given):match("%.(%w+)$")
  return extension and tidegate.lower(extension)
end

-- The n-th segment, such as `users` for the second one of `/api/users/7`. nil if there is none, if it is empty, or if it
-- is longer than a tag should be: whoever asks chooses the path, and a tag is a name.
function path.segment(given, n)
  local at = 1
  for _ = 2, n do
    at = given:find("/", at + 1, true)
    if not at then
      return nil
    end
  end
  local stop = given:find("/", at + 1, true)
  local segment = given:sub(at + 1, stop and stop - 1)
  return #segment > 0 and #segment <= 100 and segment or nil
end

-- Whether one of the patterns matches the whole path. `*` stands for any characters, slashes included.
function path.matches(given, patterns)
  for _, pattern in ipairs(patterns) do
    if tidegate.glob(pattern, given) then
      return true
    end
  end
  return false
end

-- Whether an origin might read the path as another one than a pattern does: `/public/../secret`, `/public/..%2fsecret`.
-- Do not decide by a pattern what may be shared without asking this first.
function path.is_ambiguous(given)
  return given:find("%", 1, true) ~= nil
    or given:find("..", 1, true) ~= nil
    or given:find("//", 1, true) ~= nil
    or given:find(";", 1, true) ~= nil
    or given:find("\\", 1, true) ~= nil
end

return path
