//! Scripts that mean harm. After each, the same thread's VM answers for another policy, rightly and quickly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::config::PolicyLimits;
use tidegate::policy::{ErrorKind, Policy, PolicyError, call_request, normalize, thread_time, used_memory};

use crate::costly;
use crate::support::{
    Folder, LIMITS, PATIENT, Request, headers, key, load_error, normalized, policy, policy_within, request,
};

/// Far more than the 5 ms of the limit, because the machines that run this are busy.
const SOON: Duration = Duration::from_millis(250);

/// Longest processor time of one library call in this build. The limit itself, 5 ms, is for optimised builds, where the
/// dearest call takes 3 ms; `benches/limits.rs` holds it there. Without optimisation our own functions take about
/// 15 times as long, 26 ms; Luau's, which are optimised here as well, do not get near.
const LONG: Duration = Duration::from_millis(50);

fn neighbour() -> Arc<Policy> {
    policy(
        r#"local calls = 0
        return { request = function(req)
            calls = calls + 1
            if req.headers.authorization then return { bypass = "authorized" } end
            local format = string.find(req.headers.accept or "", "webp", 1, true) and "webp" or "plain"
            return { key = { req.path, req.query.w or "", format } }
        end }"#,
    )
}

fn answers_rightly_and_quickly(neighbour: &Policy) {
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(key(neighbour), ["/album/1.jpg", "640", "webp"]);
    }
    assert!(start.elapsed() < SOON, "100 calls took {:?}", start.elapsed());
}

/// Runs a hook with this body, under the usual limits, beside an innocent neighbour.
fn attack(body: &str) -> Result<(), PolicyError> {
    attack_within(body, &LIMITS)
}

fn attack_within(body: &str, limits: &PolicyLimits) -> Result<(), PolicyError> {
    let neighbour = neighbour();
    answers_rightly_and_quickly(&neighbour);
    let hostile = policy_within(&format!("return {{ request = function(req)\n{body}\nend }}"), limits);
    let start = Instant::now();
    let result = request(&hostile);
    assert!(start.elapsed() < SOON, "it took {:?} to stop: {result:?}\n{body}", start.elapsed());
    answers_rightly_and_quickly(&neighbour);
    result.map(drop)
}

fn stopped_by_time(body: &str) {
    let error = attack(body).expect_err(body);
    assert_eq!(error.kind, ErrorKind::Time, "{error}\n{body}");
    assert_eq!(error.message, "stopped: it ran for longer than 5ms", "{body}");
    assert!(error.line.is_some(), "{error}");
}

/// Patient with time, because it must not be the time limit that ends it.
fn refused(body: &str, says: &str) {
    let error = attack_within(body, &PATIENT).expect_err(body);
    assert!(error.message.contains(says), "{error}\n{body}");
}

/// Ends in time, one way or another.
fn harmless(body: &str) {
    let _ = attack(body);
}

#[test]
fn an_endless_loop_is_stopped() {
    stopped_by_time("while true do end");
    stopped_by_time("repeat until false");
    stopped_by_time("for i = 1, math.huge do end");
}

#[test]
fn an_endless_loop_in_pcall_is_stopped() {
    stopped_by_time("while true do pcall(function() while true do end end) end");
    stopped_by_time("local function f() pcall(f) while true do pcall(f) end end f()");
    stopped_by_time("while true do xpcall(function() while true do end end, function() while true do end end) end");
    stopped_by_time("pcall(function() while true do end end) return nil");
}

#[test]
fn an_endless_loop_in_a_coroutine_is_stopped() {
    stopped_by_time("coroutine.wrap(function() while true do end end)()");
    stopped_by_time(
        "while true do local co = coroutine.create(function() while true do end end) coroutine.resume(co) end",
    );
    stopped_by_time(
        "local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true do co() end",
    );
}

#[test]
fn an_endless_loop_in_a_metamethod_is_stopped() {
    let with = |event: &str, use_it: &str| {
        format!(
            "local t = setmetatable({{}}, {{ {event} = function() while true do end end }}) local u = setmetatable({{}}, getmetatable(t)) {use_it}"
        )
    };
    for (event, use_it) in [
        ("__index", "return t.x"),
        ("__newindex", "t.x = 1"),
        ("__tostring", "return tostring(t)"),
        ("__eq", "return t == u"),
        ("__lt", "return t < u"),
        ("__le", "return t <= u"),
        ("__concat", "return t .. \"\""),
        ("__len", "return #t"),
        ("__call", "return t()"),
        ("__iter", "for _ in t do end"),
        ("__unm", "return -t"),
        ("__lt", "table.sort({ t, u, t, u })"),
        ("__tostring", "return string.format(\"%*\", t)"),
    ] {
        stopped_by_time(&with(event, use_it));
    }
}

#[test]
fn an_endless_loop_in_a_callback_is_stopped() {
    stopped_by_time("table.sort({ 3, 2, 1 }, function() while true do end end)");
    stopped_by_time("string.gsub(\"aaa\", \"a\", function() while true do end end)");
    stopped_by_time("for _ in string.gmatch(\"aaa\", \"a\") do while true do end end");
    stopped_by_time("for _ in function() return 1 end do end");
}

#[test]
fn a_sort_that_never_meets_lua_is_stopped() {
    // Two long strings that differ in their last byte, compared a million times.
    stopped_by_time(
        r#"local a, b = string.rep("x", 1000000), string.rep("x", 999999) .. "y"
        local t = table.create(50000, a) for i = 1, 50000, 2 do t[i] = b end
        table.sort(t)"#,
    );
    // A comparison that is a C function, and an error that is swallowed.
    stopped_by_time("while true do local t = table.create(50000, 1) pcall(table.sort, t, rawequal) end");
}

#[test]
fn pattern_bombs_are_stopped() {
    stopped_by_time("string.find(string.rep(\"a\", 5000), string.rep(\"a?\", 30) .. string.rep(\"a\", 30) .. \"b\")");
    stopped_by_time("string.match(string.rep(\"a\", 30000), \".-.-.-.-b\")");
    stopped_by_time("string.gsub(string.rep(\"a\", 30000), \".-.-.-.-b\", \"\")");
    stopped_by_time("for _ in string.gmatch(string.rep(\"a\", 30000), \".-.-.-.-b\") do end");
    refused("string.find(string.rep(\"(\", 300), string.rep(\"(\", 300))", "captures");
    harmless("string.find(string.rep(\"a\", 300000), string.rep(\"a-\", 8))");
}

#[test]
fn searches_that_no_interrupt_stops_are_bounded() {
    refused(
        "local s = string.rep(\"a\", 1000000) return string.find(s, string.rep(\"a\", 500000) .. \"b\", 1, true)",
        "string.find: a pattern of 500001 bytes is too long",
    );
    refused(
        "string.find(string.rep(\"a\", 1000000), \"[\" .. string.rep(\"b\", 100000) .. \"]\")",
        "is too long for a text",
    );
    refused("string.match(string.rep(\"a\", 1000000), string.rep(\"%b()\", 100))", "is too long for a text");
    refused("string.split(string.rep(\"a\", 1000000), \"\")", "bytes to split");
    refused("string.split(string.rep(\"a\", 65536), string.rep(\"a\", 32768))", "is too long for a text");
    refused("string.gsub(\"a\", \"a\", string.rep(\"%1\", 100000))", "bytes of replacement");
    refused("tidegate.glob(string.rep(\"*a\", 10000), string.rep(\"a\", 100000))", "is too long for a text");
    refused("req.query:only(string.rep(\"*a\", 500000))", "too long");
    refused("tidegate.decode(string.rep(\"%\", 1000000))", "more than 262144");
    refused("string.find(string.rep(\"a\", 600000), \"ab\", 1, true)", "bytes to search");
    refused("tonumber(string.rep(\"z\", 1048577), 36)", "bytes");
    refused("string.format(string.rep(\"%99.99f\", 300), unpack(table.create(300, 1e308)))", "bytes");
    refused("string.gsub(string.rep(\"a\", 65536), \".*\", string.rep(\"%0\", 17))", "bytes of captures");
    refused("table.concat(table.create(25001, 1))", "elements");
    refused("tidegate.cookies(unpack(table.create(7000, \"a\" .. string.rep(\" \", 262143))))", "more than 64");
    refused("tidegate.cookies(\"a\" .. string.rep(\" \", 300))", "is not the name of a cookie");
    refused("tidegate.cookies(\"a\")(string.rep(\"a=;\", 87382))", "longer than 262144");
}

#[test]
fn the_length_of_what_is_built_is_bounded() {
    refused("string.rep(\"x\", 1e9)", "bytes of result");
    refused("string.rep(\"x\", \"1e9\")", "bytes of result");
    refused("string.rep(string.rep(\"x\", 1000), 1e6)", "bytes of result");
    refused("string.rep(\"x\", 1e300)", "out of range");
    refused("local s = string.rep(\"x\", 1000000) string.format(\"%s%s\", s, s)", "bytes");
    refused("local s = string.rep(\"x\", 1000000) s = s .. s return string.lower(s)", "bytes");
    refused("local s = string.rep(\"x\", 1000000) s = s .. s return utf8.len(s)", "bytes");
    refused("table.create(1e9, 1)", "elements");
    refused("table.concat({}, \"\", 1, 1e9)", "elements");
    refused("unpack({}, 1, 1e6)", "values");
    refused("table.unpack({}, 1, 1e6)", "values");
}

#[test]
fn moving_tables_is_bounded() {
    refused("table.move({}, 1, 2^31 - 2, 2)", "elements");
    refused("table.move({}, \"1\", \"2147483646\", 2)", "elements");
    refused("table.move({}, -2^31, -2, 1)", "elements");
    // Luau wraps these to its least integer, which makes an innocent difference of them.
    refused("table.move({}, 1e10, -2, 1)", "out of range");
    refused("table.move({}, 1, 2, 1e10)", "out of range");
    refused("table.move({}, 0/0, 5, 1)", "out of range");
    refused("local t = {} for i = 1, 150000 do t[i] = i end table.insert(t, 1, 0)", "elements");
    refused("local t = {} for i = 1, 150000 do t[i] = i end table.remove(t, 1)", "elements");
}

#[test]
fn appending_and_taking_from_the_end_of_a_long_table_is_free() {
    let policy = policy(
        "return { request = function() local t = {} for i = 1, 150000 do table.insert(t, i) end
            table.remove(t) table.remove(t, #t) return { key = #t } end }",
    );
    assert_eq!(key(&policy), ["149998"]);
}

#[test]
fn library_functions_still_do_their_work() {
    let policy = policy(
        r#"return { request = function()
            local t = { 3, 1, 2 } table.sort(t)
            local u = { "b", "a" } table.sort(u, function(a, b) return a < b end)
            return { key = {
                table.concat(t, ","), table.concat(u), tostring(table.find(t, 2)), tostring(table.find(t, 9)),
                tostring(table.find(t, 1, 2)), table.concat(table.move(t, 1, 2, 2), ","), string.rep("ab", 2, nil),
                tostring(string.find("abc", "b", 1, true)), string.gsub("abc", "b", "%0%0"), table.concat(string.split("a-b", "-"), "+"),
                string.format("%s %d", "x", 3), tostring((unpack({ 7 }))),
            } }
        end }"#,
    );
    assert_eq!(key(&policy), ["1,2,3", "ab", "2", "nil", "nil", "1,1,2", "abab", "2", "abbc", "a+b", "x 3", "7"]);
}

#[test]
fn a_memory_bomb_is_an_error_and_leaves_no_debris() {
    let of = |body: &str| {
        // Patient with time, so that memory is what runs out.
        let limits = PolicyLimits { time: Duration::from_secs(10), memory: 16 << 20 };
        let neighbour = neighbour();
        answers_rightly_and_quickly(&neighbour);
        let before = used_memory();
        let hostile = policy_within(&format!("return {{ request = function(req)\n{body}\nend }}"), &limits);
        let error = request(&hostile).expect_err(body);
        assert_eq!(error.kind, ErrorKind::Memory, "{error}\n{body}");
        assert_eq!(error.message, "stopped: it needed more than 16.0 MiB of memory (policies.limits.memory)");
        answers_rightly_and_quickly(&neighbour);
        assert!(used_memory() < before + (2 << 20), "{} bytes, {before} before", used_memory());
    };
    of("local t = {} while true do t[#t + 1] = {} end");
    of("local s = \"x\" while true do s = s .. s end");
    of("local t = {} while true do t[#t + 1] = coroutine.create(function() end) end");
    of("local t = {} while true do t[#t + 1] = string.rep(tostring(#t), 10000) end");
}

#[test]
fn a_policy_that_hoards_does_not_starve_its_neighbours() {
    let neighbour = neighbour();
    let hoarder = policy(
        "local kept = {} return { request = function() for i = 1, 2000 do kept[#kept + 1] = { #kept } end end }",
    );
    for _ in 0..1000 {
        let _ = request(&hoarder);
        assert!(request(&neighbour).is_ok());
        assert!(used_memory() < 16 << 20);
    }
    assert!(hoarder.errors() < 100, "{} of 1000 calls failed", hoarder.errors());
}

#[test]
fn swallowing_memory_errors_ends_as_well() {
    harmless("while true do pcall(function() local s = \"x\" while true do s = s .. s end end) end");
    harmless("local t = {} while true do pcall(function() while true do t[#t + 1] = {} end end) end");
}

#[test]
fn deep_recursion_is_an_error() {
    let deep = |body: &str| {
        let error = attack(body).expect_err(body);
        assert!(matches!(error.kind, ErrorKind::Runtime | ErrorKind::Time | ErrorKind::Memory), "{error}");
    };
    deep("local function f() return 1 + f() end return f()");
    deep("local function f() return f() end return f()");
    deep("local function f() return pcall(f) and f() end return f() and error(\"overflow\")");
    deep("local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x");
    deep("local function f() return string.gsub(\"a\", \"a\", f) end return f()");
    deep("local function f() table.sort({ 1, 2 }, f) end return f()");
    deep("local function f() return coroutine.wrap(f)() end return f()");
    deep("local t = setmetatable({}, { __tostring = function(t) return tostring(t) end }) return tostring(t)");
    deep("local t = {} for i = 1, 100000 do t = setmetatable({}, { __index = t }) end return t.x + 1");
}

#[test]
fn deeply_nested_source_is_an_error() {
    for (open, close) in [("(", ")"), ("{", "}"), ("function() return ", " end"), ("-", ""), ("not ", ""), ("a.", "b")]
    {
        let n = 50_000;
        let error = load_error(format!("return {}1{}", open.repeat(n), close.repeat(n)));
        assert!(matches!(error.kind, ErrorKind::Syntax | ErrorKind::Load), "{error}");
    }
    let error = load_error(format!("{} {}", "do ".repeat(50_000), "end ".repeat(50_000)));
    assert_eq!(error.kind, ErrorKind::Syntax, "{error}");
    load_error(format!("return {}", vec!["1"; 100_000].join(" .. ")));
    load_error(format!("return {}", vec!["1"; 100_000].join(" + ")));
}

#[test]
fn yielding_out_of_a_hook_is_an_error() {
    refused("coroutine.yield()", "attempt to yield");
    refused("return coroutine.running() and coroutine.yield({})", "attempt to yield");
}

#[test]
fn the_top_level_is_limited_as_well() {
    let start = Instant::now();
    let error = load_error("while true do end\nreturn {}");
    assert_eq!((error.kind, error.line), (ErrorKind::Time, Some(1)), "{error}");
    assert!(start.elapsed() < SOON * 2);
    let folder =
        Folder::new(&[("p.lua", "local t = {} while true do t[#t + 1] = string.rep(tostring(#t), 10000) end")]);
    let error = folder.load(&["p.lua"], &PATIENT).1.remove(0);
    assert_eq!(error.kind, ErrorKind::Memory, "{error}");
    let error = load_error("while true do pcall(function() while true do end end) end");
    assert_eq!(error.kind, ErrorKind::Time, "{error}");
}

#[test]
fn a_lua_normaliser_is_limited_as_well() {
    let neighbour = neighbour();
    let hostile = policy_within("return { normalize = { dpr = function() while true do end end } }", &LIMITS);
    let error = normalized(&hostile, &[("dpr", "2")]).unwrap_err();
    assert_eq!((error.kind, error.line), (ErrorKind::Time, Some(1)), "{error}");
    answers_rightly_and_quickly(&neighbour);
}

#[test]
fn bytecode_is_refused() {
    let bytecode = [6u8, 3, 1, 7, b'r', b'e', b'q', 0, 0];
    for source in [&bytecode[..], b"\x1bLua", b"\0", b"return {} \x01", b"\xff\xfe"] {
        let error = load_error(source);
        assert_eq!(error.kind, ErrorKind::Load);
        assert!(error.message.contains("looks like bytecode"), "{error}");
    }
}

#[test]
fn modules_outside_the_folder_and_bytecode_modules_are_refused() {
    for name in ["../p", "/etc/passwd", "a/../p", "", "p.lua", "a\\b", "nothing"] {
        let error = load_error(format!("require({name:?})\nreturn {{}}"));
        assert!(error.message.contains("require("), "{error}");
        assert_eq!(error.line, Some(1));
    }
    let folder = Folder::new(&[("p.lua", "local m = require(\"m\")\nreturn {}")]);
    folder.write("m.lua", [6u8, 1, 2]);
    let (_, errors) = folder.load(&["p.lua"], &LIMITS);
    assert_eq!(&*errors[0].file, "policies/m.lua");
    assert!(errors[0].message.contains("looks like bytecode"));
}

#[test]
fn nothing_that_a_policy_does_is_seen_by_another() {
    // Each attempt succeeds or fails; either way the neighbour must not notice.
    let attempts = [
        "string.find = function() return nil end",
        "getmetatable(\"\").__index = function() return \"poison\" end",
        "getmetatable(\"\").__concat = function() return \"poison\" end",
        "setmetatable(string, { __index = function() return \"poison\" end })",
        "table.clear(string)",
        "rawset(string, \"find\", nil)",
        "table.move({ 1, 2 }, 1, 2, 1, string)",
        "table.insert(table, 1)",
        "_G.string = nil",
        "_G.tostring = function() return \"poison\" end",
        "rawset(_G, \"req\", 1)",
        "setmetatable(_G, { __index = function() return \"poison\" end })",
        "tidegate.hash = nil",
        "math.floor = nil math.huge = 0",
        "string = nil tostring = nil tidegate = nil math = nil poison = 1",
        "rawset(getmetatable(require), \"x\", 1)",
        "getfenv().string = nil",
        "setfenv(1, {})",
        "coroutine.wrap(function() poison = 1 string = nil end)()",
    ];
    let victim = "local format = string.format
        return { request = function(req)
            assert(poison == nil and _G.poison == nil)
            return { key = { format(\"%s\", req.path), string.find(\"abc\", \"b\") .. \"\", (\"x\"):upper(), tidegate.hash(\"a\"), math.floor(1.5), tostring(1) } }
        end }";
    let expected = ["/album/1.jpg", "2", "X", "e6c632b61e964e1f", "1", "1"];
    let before = policy(victim);
    assert_eq!(key(&before), expected);
    for attempt in attempts {
        let hostile =
            policy(&format!("pcall(function() {attempt} end)\nreturn {{ request = function(req) {attempt} end }}"));
        let _ = request(&hostile);
        assert_eq!(key(&before), expected, "{attempt}");
        assert_eq!(key(&policy(victim)), expected, "{attempt}");
    }
}

#[test]
fn two_policies_do_not_share_a_module() {
    let user = "local m = require(\"counter\") return { request = function() return { key = m.next() } end }";
    let folder = Folder::new(&[
        ("a.lua", user),
        ("b.lua", user),
        ("counter.lua", "local n = 0 return { next = function() n = n + 1 return n end }"),
    ]);
    let (set, errors) = folder.load(&["a.lua", "b.lua"], &PATIENT);
    assert_eq!(errors, []);
    let (a, b) = (set.get("a.lua").unwrap(), set.get("b.lua").unwrap());
    assert_eq!((key(a), key(a), key(b)), (vec!["1".into()], vec!["2".into()], vec!["1".into()]));
}

#[test]
fn a_request_cannot_reach_another_policy() {
    // There is nothing that two policies share, so a request can only be kept by the policy that saw it.
    let keeper = policy(
        "local kept return { request = function(req) kept = kept or { req, req.headers, req.query } end,
            normalize = { dpr = function() return tostring(kept[1].path) end } }",
    );
    request(&keeper).unwrap();
    let error = normalized(&keeper, &[]).unwrap_err();
    assert!(error.message.contains("used outside of its call"), "{error}");
}

#[test]
fn a_late_alarm_never_stops_the_next_call() {
    let hostile = policy_within("return { request = function() while true do end end }", &LIMITS);
    let quick = policy_within(
        "return { request = function(req) local n = 0 for i = 1, 100 do n = n + i end return { key = n } end }",
        &LIMITS,
    );
    for _ in 0..20 {
        assert_eq!(request(&hostile).unwrap_err().kind, ErrorKind::Time);
        for _ in 0..20 {
            assert_eq!(request(&quick).map(drop), Ok(()));
        }
    }
}

#[test]
fn a_machine_with_too_much_to_do_stops_no_quick_call() {
    use std::sync::atomic::{AtomicBool, Ordering};
    // Threads that are put aside for long in the middle of a call must not pay for it.
    let quick = policy_within(
        "return { request = function(req) local n = 0 for i = 1, 1000 do n = n + i end return { key = n } end }",
        &PolicyLimits { time: Duration::from_millis(2), ..LIMITS },
    );
    let over = AtomicBool::new(false);
    let busy = std::thread::available_parallelism().map_or(4, usize::from) * 3;
    std::thread::scope(|scope| {
        for _ in 0..busy {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let start = Instant::now();
        let mut calls = 0;
        while start.elapsed() < Duration::from_secs(1) {
            let result = request(&quick);
            if result.is_err() {
                over.store(true, Ordering::Relaxed);
            }
            assert_eq!(result.map(drop), Ok(()), "after {calls} calls");
            calls += 1;
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn every_thread_is_watched_also_after_a_rest() {
    let hostile = policy_within("return { request = function() while true do end end }", &LIMITS);
    // The watchdog goes to sleep after a second without a call; silence is the event to wait for.
    std::thread::sleep(Duration::from_millis(1300));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let start = Instant::now();
                assert_eq!(request(&hostile).unwrap_err().kind, ErrorKind::Time);
                assert!(start.elapsed() < SOON * 2, "{:?}", start.elapsed());
            });
        }
    });
}

#[test]
fn hostile_requests_cannot_break_a_policy() {
    let policy = policy(
        r#"return { request = function(req)
            return { key = { req.path, req.query:sorted(), req.query.a or "", req.cookies.a or "", req.headers["x-a"] or "", #req.query } }
        end }"#,
    );
    let long: &'static str = Box::leak("&a=%00&=&&a".repeat(9000).into_boxed_str());
    let mut sent = Request { path: "/\u{202e}%00//..", query: long, ..Request::default() };
    sent.headers.append("x-a", http::HeaderValue::from_bytes(b"\xff\x80").unwrap());
    sent.headers.append("cookie", http::HeaderValue::from_bytes(b";=;;a;a=\xff;").unwrap());
    // The key is too long, which is a decision error, not a crash.
    let kind = call_request(&policy, &sent.view()).map(drop).map_err(|error| error.kind);
    assert_eq!(kind, Err(ErrorKind::Decision));
    sent.query = "&&=&a&a=1&";
    let parts = call_request(&policy, &sent.view()).unwrap().key.unwrap().to_strings();
    assert_eq!(parts, ["/\u{202e}%00//..", "=&a&a=1", "", "\u{fffd}", "\u{fffd}\u{fffd}", "3"]);
}

#[test]
fn no_library_call_within_its_bound_takes_long() {
    for costly in costly::BOUNDED {
        let limits = PolicyLimits { memory: 64 << 20, ..PATIENT };
        let policy = policy_within(&costly.source(), &limits);
        let query: &'static str = Box::leak(costly.query.0.repeat(costly.query.1).into_boxed_str());
        let sent = Request { query, ..Request::default() };
        // The first call loads the policy into this thread's VM. What the hook returns may be no decision.
        let first = call_request(&policy, &sent.view()).map(drop);
        assert!(first.as_ref().is_ok() || first.as_ref().is_err_and(|e| e.kind == ErrorKind::Decision), "{first:?}");
        let quickest = (0..3).map(|_| {
            let start = thread_time();
            let _ = call_request(&policy, &sent.view());
            thread_time().saturating_sub(start)
        });
        let quickest = quickest.min().unwrap();
        println!("{quickest:>12.1?} {}    {}", costly.call, costly.prepare);
        assert!(quickest < LONG, "{} took {quickest:?}", costly.call);
    }
}

/// The field is the client's, and the normaliser runs outside of the limit: 64 names must cost what one costs, about.
#[test]
fn a_long_field_against_many_names_is_normalised_in_one_pass() {
    let names = |n: usize| (1..=n).map(|i| format!("\"n-{i:02}\"")).collect::<Vec<_>>().join(", ");
    for (field, function, part) in [
        // Names that are as long as those sought, so that lengths alone tell nothing.
        ("cookie", "cookies", "n-00=;"),
        ("cookie", "cookies", "=;"),
        ("accept-language", "languages", "-aa"),
        ("accept-language", "languages", "n-00,"),
        ("accept-encoding", "encodings", "n-00,"),
    ] {
        let sent = headers(&[(field, &part.repeat((64 << 10) / part.len()))]);
        let quickest = |n: usize| {
            let policy =
                policy(&format!("return {{ normalize = {{ [\"{field}\"] = tidegate.{function}({}) }} }}", names(n)));
            let times = (0..5).map(|_| {
                let start = thread_time();
                normalize(&policy, &sent).unwrap();
                thread_time().saturating_sub(start)
            });
            times.min().unwrap()
        };
        let (one, many) = (quickest(1), quickest(64));
        println!("{many:>12.1?} with 64 names, {one:.1?} with one: {function} of {part:?}");
        // Before, each name cost a pass of its own, 64 times as much. The millisecond is for what both do once.
        assert!(many < one * 12 + Duration::from_millis(1), "{function} of {part:?}: {many:?}, {one:?} with one name");
    }
}
