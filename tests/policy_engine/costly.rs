//! The dearest calls that scripts may make of what no interrupt stops, for the tests and for `benches/limits.rs`.

/// One function at the largest input that it takes.
pub struct Costly {
    /// Runs once, at the top level.
    pub prepare: &'static str,
    /// Runs in `request`.
    pub call: &'static str,
    /// The query of the request is this, so often.
    pub query: (&'static str, usize),
}

/// A call that needs nothing of the request.
pub const fn call(prepare: &'static str, call: &'static str) -> Costly {
    Costly { prepare, call, query: ("", 0) }
}

const fn asked(prepare: &'static str, call: &'static str, part: &'static str, times: usize) -> Costly {
    Costly { prepare, call, query: (part, times) }
}

impl Costly {
    /// The policy that makes the call.
    pub fn source(&self) -> String {
        format!("{}\nreturn {{ request = function(req) {} end }}", self.prepare, self.call)
    }
}

/// Calls that a bound keeps short.
pub const BOUNDED: &[Costly] = &[
    // A set that is searched to its end for each byte, and then a step back for each byte, without a match.
    call(r#"local s, p = string.rep("a", 16384), "^[" .. string.rep("b", 58) .. "a]*c""#, "string.find(s, p)"),
    call(r#"local s, p = string.rep("a", 16384), "^[" .. string.rep("%d", 28) .. "%w]*c""#, "string.find(s, p)"),
    call(r#"local s, p = string.rep("a", 16384), "^[" .. string.rep("b-c", 19) .. "a]*c""#, "string.find(s, p)"),
    call(r#"local s, p = string.rep("a", 209715), "^%w*c""#, "string.find(s, p)"),
    call(r#"local s, p = string.rep("a", 16384), "[" .. string.rep("b", 61) .. "]""#, "string.find(s, p)"),
    call(r#"local s, p = string.rep("a", 16384), string.rep("%b()", 16)"#, "string.match(s, p)"),
    call(r#"local s, p = string.rep("(", 209715), "^%b()""#, "string.match(s, p)"),
    call(r#"local s = string.rep("a", 1048576)"#, r#"string.gsub(s, "a", "", 1000)"#),
    call(r#"local s, p = string.rep("a", 524288), string.rep("a", 63) .. "b""#, "string.find(s, p, 1, true)"),
    call(r#"local s, p = string.rep("a", 524288), "ab""#, "string.find(s, p, 1, true)"),
    call(r#"local s, p = string.rep("a", 16384), string.rep("a", 2000) .. "b""#, "string.find(s, p, 1, true)"),
    call(r#"local s, r = string.rep("a", 65536), string.rep("%0", 16)"#, r#"string.gsub(s, ".*", r, 1)"#),
    call(r#"local s, r = string.rep("a", 32), string.rep("%1", 32768)"#, r#"string.gsub(s, "(a)", r, 1)"#),
    call(r#"local s = string.rep("a", 65536)"#, r#"string.split(s, "")"#),
    call(r#"local s, p = string.rep("a", 65536), string.rep("a", 500) .. "b""#, "string.split(s, p)"),
    call("", r#"string.rep("x", 1048576)"#),
    call("", r#"string.rep("", 2147483647)"#),
    call(r#"local s = string.rep("a", 1048576)"#, "string.upper(s)"),
    call(r#"local s = string.rep("a", 1048576)"#, "string.reverse(s)"),
    call(r#"local s = string.rep("\0", 262144)"#, r#"string.format("%q", s)"#),
    call(r#"local f, t = string.rep("%99.99f", 256), table.create(256, -1.7e308)"#, "string.format(f, unpack(t))"),
    call(
        r#"local f, t = string.rep("%s", 256), table.create(256, 1.2345678901234567e-300)"#,
        "string.format(f, unpack(t))",
    ),
    call(r#"local s = string.rep("a", 1048576)"#, "utf8.len(s)"),
    call(r#"local s = string.rep("a", 1048576)"#, "utf8.offset(s, 1048576)"),
    call(r#"local t = table.create(25000, "abc")"#, r#"table.concat(t, ",")"#),
    call("local t = table.create(25000, 1.2345678901234567e-300)", r#"table.concat(t, ",")"#),
    call("local t = {} for i = 99999, 1, -1 do t[i] = i end", "table.insert(t, 1, 0) table.remove(t, 1)"),
    call("local t = {} for i = 100000, 1, -1 do t[i] = i end", "table.move(t, 1, 100000, 2)"),
    call("local t = {}", "table.move(t, 1, 100000, 200000)"),
    call("", "table.create(100000, 1)"),
    call("local t = table.create(7900, 1)", r##"select("#", unpack(t))"##),
    call(r#"local s = string.rep("a", 7900)"#, "string.byte(s, 1, -1)"),
    call(r#"local s = string.rep(" ", 1048576)"#, "tonumber(s)"),
    call(r#"local s = string.rep("1", 1048576)"#, "tonumber(s)"),
    call(r#"local s = "0." .. string.rep("1", 1048576)"#, "tonumber(s)"),
    call(r#"local s = string.rep("z", 1048576)"#, "tonumber(s, 36)"),
    call(r#"local s = string.rep("x", 1048576)"#, "local u = s .. s .. s .. s"),
    call(r#"local k = string.rep("x", 1048576)"#, "pcall(function() return req[k] end)"),
    call(r#"local k = string.rep("x", 1048576)"#, "return req.headers[k] or req.cookies[k] or req.query[k]"),
    call(r#"local s, p = string.rep("a", 65536), "*" .. string.rep("a", 29) .. "b""#, "tidegate.glob(p, s)"),
    call(r#"local s, p = string.rep("a", 1448), string.rep("*a", 723) .. "b""#, "tidegate.glob(p, s)"),
    call(r#"local s, p = string.rep("ab", 724), string.rep("*ab", 482)"#, "tidegate.glob(p, s)"),
    call(r#"local s = string.rep("%41", 80000)"#, "tidegate.decode(s)"),
    call(r#"local s = string.rep("A", 262144)"#, "tidegate.lower(s) tidegate.hash(s)"),
    call(r#"local s = string.rep(" ", 262144)"#, "pcall(tidegate.duration, s) pcall(tidegate.date, s)"),
    call(r#"local s, n = string.rep(",br;q=0.1", 7000), tidegate.encodings("br", "gzip")"#, "n(s)"),
    call(
        r#"local t = {} for i = 1, 64 do t[i] = "c" .. i end
        local s, n = string.rep("c0=;", 65536), tidegate.cookies(unpack(t))"#,
        "n(s)",
    ),
    call(r#"local s, n = string.rep("=;", 131072), tidegate.cookies("b", "c", "d", "e")"#, "n(s)"),
    call(
        r#"local t = {} for i = 1, 64 do t[i] = "c" .. i end
        local s, n = string.rep("-aa", 87381), tidegate.languages(unpack(t))"#,
        "n(s)",
    ),
    call(
        r#"local t = {}
        local s = string.rep(" ", 192) .. string.rep("a", 64) for i = 1, 64 do t[i] = s end"#,
        "tidegate.cookies(unpack(t))",
    ),
    asked(r#"local t = table.create(1000, "a")"#, "req.query:only(unpack(t))", "b&", 2000),
    asked(r#"local t = table.create(250, "a")"#, "req.query:only(unpack(t))", "b&", 8000),
    asked(r#"local t = table.create(64, "a")"#, "req.query:without(unpack(t))", "b&", 32000),
    asked(r#"local t = table.create(16, "*a*b")"#, "req.query:without(unpack(t))", "aaaaaaa&", 8000),
    asked("", "req.query:sorted()", "b&a&", 16000),
    asked("", "req.query:sorted()", "d=1&c=1&b=1&a=1&", 4000),
    asked("", "return req.query.c, #req.query", "b&", 32000),
];
