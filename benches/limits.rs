//! Whether the limit of time holds: what one library call can take, how late a script is stopped that does not want to
//! be, and what loading a policy costs.
//!
//! Not by criterion: these are about the worst, not about the mean. It fails if a bounded call takes longer than the
//! default limit.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use http::HeaderMap;
use tidegate::config::PolicyLimits;
use tidegate::policy::view::RequestView;
use tidegate::policy::{ErrorKind, Policy, PolicyError, PolicyHost, PolicySet, Watcher, call_request, thread_time};

#[path = "../tests/policy_engine/costly.rs"]
mod costly;

use costly::{Costly, call as of};

/// The defaults.
const LIMITS: PolicyLimits = PolicyLimits { time: Duration::from_millis(5), memory: 16 << 20 };

/// For calls that are timed, not stopped: more than one at its largest input needs.
const PATIENT: PolicyLimits = PolicyLimits { time: Duration::from_secs(10), memory: 64 << 20 };

fn main() -> ExitCode {
    let late = library_calls();
    runaways();
    long_calls();
    reloads();
    changes();
    if late == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("{late} bounded calls take longer than the limit of {:?}", LIMITS.time);
    ExitCode::FAILURE
}

// === One library call ===

/// What is linear in a string or table that exists, and so is bounded by the limit of memory.
const LINEAR: &[Costly] = &[
    of(r#"local s = string.rep("x", 1048576) s = s .. s .. s .. s"#, r#"return s .. "x""#),
    of(r#"local s = string.rep("x", 1048576) s = s .. s .. s .. s .. s .. s"#, "return string.sub(s, 2)"),
    of(r#"local t = table.create(6, string.rep("x", 1048576))"#, "return table.concat(t)"),
    of(r#"local s = string.rep(" ", 1048576) s = s .. s .. s .. s .. s .. s"#, "return tonumber(s)"),
    of("local t = table.create(100000, 1) for i = 100001, 400000 do t[i] = 1 end", "return table.clone(t)"),
    of("local t = {} for i = 1, 120000 do t[i + 0.5] = 1 end", "return table.clone(t)"),
];

/// How many take longer than the default limit.
fn library_calls() -> usize {
    println!("\nOne library call at its largest input: quickest of 10, processor time");
    let late = costly::BOUNDED.iter().filter(|costly| quickest(costly, &PATIENT) > LIMITS.time).count();
    println!("\nWhat only the memory limit bounds, as much as 16 MiB can hold: quickest of 10, processor time");
    for costly in LINEAR {
        quickest(costly, &PATIENT);
    }
    late
}

/// On a thread of its own, whose VM has no garbage of others.
fn quickest(costly: &Costly, limits: &PolicyLimits) -> Duration {
    std::thread::scope(|scope| scope.spawn(|| quickest_here(costly, limits)).join()).expect("a figure")
}

fn quickest_here(costly: &Costly, limits: &PolicyLimits) -> Duration {
    let policy = policy(&costly.source(), limits);
    let query = costly.query.0.repeat(costly.query.1);
    let mut quickest = Duration::MAX;
    let mut remark = "";
    // One more, since the first call loads the policy into this thread's VM.
    for _ in 0..11 {
        let start = thread_time();
        let result = call(&policy, &query);
        quickest = quickest.min(thread_time().saturating_sub(start));
        match result.map_err(|error| error.kind) {
            // What a hook returns here is no decision.
            Ok(()) | Err(ErrorKind::Decision) => {}
            Err(_) => remark = "  (fails)",
        }
    }
    let prepare: String = costly.prepare.chars().take(100).collect();
    println!("{:>9.3} ms  {}    {prepare}{remark}", quickest.as_secs_f64() * 1e3, costly.call);
    quickest
}

// === Scripts that do not end ===

const RUNAWAYS: &[(&str, &str)] = &[
    ("bare loop", "while true do end"),
    ("loop in pcall", "while true do pcall(function() while true do end end) end"),
    ("loop in a coroutine", "coroutine.wrap(function() while true do end end)()"),
    ("loop in a metamethod", "return setmetatable({}, { __index = function() while true do end end }).x"),
    ("loop in a sort's callback", "table.sort({ 3, 2, 1 }, function() while true do end end)"),
    ("sort that never meets Lua", "while true do local t = table.create(50000, 1) pcall(table.sort, t, rawequal) end"),
    ("pattern bomb", r#"string.match(string.rep("a", 30000), ".-.-.-.-b")"#),
    ("string building", r#"while true do local s = "" for i = 1, 20000 do s = s .. "x" end end"#),
    ("strings of 100 KiB", r#"while true do local s = string.rep("x", 102400) end"#),
    ("table growth", "while true do local t = {} for i = 1, 50000 do t[i] = i end end"),
    ("table growth by keys", "while true do local t = {} for i = 1, 30000 do t[i + 0.5] = i end end"),
    ("small tables", "while true do local t = { { {} } } end"),
    (
        "deep recursion",
        "local function f(n) if n == 0 then return 0 end return 1 + f(n - 1) end while true do f(15000) end",
    ),
    ("recursion by pcall", "local function f() pcall(f) while true do pcall(f) end end f()"),
];

/// Runs of each.
const RUNS: usize = 100;

fn runaways() {
    println!("\nFrom the limit of {:?} to the end of the call, {RUNS} runs: wall, and processor time", LIMITS.time);
    println!("{:<28}{:>12}{:>12}{:>12}{:>12}", "", "median", "max", "median cpu", "max cpu");
    for (name, body) in RUNAWAYS {
        let policy = policy(&format!("return {{ request = function(req) {body} end }}"), &LIMITS);
        let (mut wall, mut processor, mut full) = (Vec::new(), Vec::new(), 0);
        for _ in 0..RUNS {
            let (start, used) = (Instant::now(), thread_time());
            let result = call(&policy, "");
            let (end, used) = (start.elapsed(), thread_time().saturating_sub(used));
            match result.map_err(|error| error.kind) {
                Err(ErrorKind::Time) => {
                    wall.push(over(end));
                    processor.push(over(used));
                }
                Err(ErrorKind::Memory) => full += 1,
                other => panic!("{name}: {other:?}"),
            }
        }
        let remark = if full > 0 { format!("  ({full} ended by memory)") } else { String::new() };
        println!("{name:<28}{}{}{remark}", figures(&mut wall), figures(&mut processor));
    }
}

/// Milliseconds beyond the limit; negative before it.
fn over(time: Duration) -> f64 {
    (time.as_secs_f64() - LIMITS.time.as_secs_f64()) * 1e3
}

// === Calls that are long and end ===

const LOOPS: &[(&str, &str)] = &[
    ("empty loop", "for i = 1, n do end"),
    ("loop that adds", "local x = 0 for i = 1, n do x = x + i % 7 end"),
    ("loop that calls", "local function f(a) return a end for i = 1, n do f(i) end"),
    ("loop over fields", r#"local x for i = 1, n do x = req.headers.accept or req.path end"#),
    ("loop over a library", r#"local x for i = 1, n do x = string.find("image/webp", "webp", 1, true) end"#),
];

/// What it costs a call to look at its clock, which it does from the watchdog's first look on: the same work in calls that
/// are too short to be found, and in long ones.
fn long_calls() {
    println!("\nNanoseconds for each round of a loop, processor time, quickest of 10: 10 rounds a call, and 300,000");
    for (name, body) in LOOPS {
        let policy = policy(&format!("return {{ request = function(req) local n = #req.query {body} end }}"), &PATIENT);
        let round = |rounds: usize, calls: usize| {
            let query = "a&".repeat(rounds);
            let none = policy_of_nothing();
            let timed = |policy: &Policy| {
                let times = (0..10).map(|_| {
                    let start = thread_time();
                    for _ in 0..calls {
                        call(policy, &query).expect("an end");
                    }
                    thread_time().saturating_sub(start)
                });
                times.min().unwrap_or_default()
            };
            // Without the call itself, and the counting of the query.
            timed(&policy).saturating_sub(timed(&none)).as_secs_f64() * 1e9 / (rounds * calls) as f64
        };
        println!("{name:<28}{:>12.1}{:>12.1}", round(10, 30_000), round(300_000, 1));
    }
}

fn policy_of_nothing() -> Arc<Policy> {
    policy("return { request = function(req) local n = #req.query end }", &PATIENT)
}

// === Reloads ===

fn reloads() {
    println!(
        "\nReload of one changed policy, {RUNS} runs: read, compile and try aside; then the first call in a live VM"
    );
    println!("{:<28}{:>12}{:>12}{:>12}{:>12}", "", "aside", "max", "first call", "max");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut names: Vec<String> = std::fs::read_dir(&from)
        .expect("the shipped policies")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".lua"))
        .collect();
    names.sort();
    for name in names {
        let folder = copy(&from);
        let file = folder.path().join(&name);
        let source = std::fs::read_to_string(&file).expect("the policy");
        let (mut set, errors) = PolicySet::load(folder.path(), &[&name], &LIMITS);
        assert!(errors.is_empty(), "{errors:?}");
        let (mut aside, mut first) = (Vec::new(), Vec::new());
        for run in 0..RUNS {
            std::fs::write(&file, format!("{source}\n-- {run}\n")).expect("a new version");
            let start = Instant::now();
            let (next, errors) = PolicySet::reload(&set, folder.path(), &[&name], &LIMITS);
            aside.push(start.elapsed().as_secs_f64() * 1e3);
            assert!(errors.is_empty(), "{errors:?}");
            set = next;
            let policy = set.get(&name).expect("the policy");
            let start = Instant::now();
            call(policy, "w=640").expect("a decision");
            first.push(start.elapsed().as_secs_f64() * 1e3);
        }
        println!("{name:<28}{}{}", figures(&mut aside), figures(&mut first));
    }
}

/// From a file's change until its new version is in force, as the daemon does it.
fn changes() {
    let folder = copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"));
    let file = folder.path().join("api.lua");
    let source = std::fs::read_to_string(&file).expect("the policy");
    let (host, errors) = PolicyHost::new(folder.path(), &[Arc::from("api.lua")], &LIMITS);
    assert!(errors.is_empty(), "{errors:?}");
    let host = Arc::new(host);
    let (reloads, reloaded) = mpsc::channel();
    let watched = Arc::clone(&host);
    let _watcher = Watcher::start(folder.path(), move || {
        let _ = reloads.send(watched.reload().changed.len());
    });
    let mut times = Vec::new();
    // The first one may come before the watch is placed, and then waits for the next look at the folder.
    for run in 0..21 {
        let start = Instant::now();
        std::fs::write(&file, format!("{source}\n-- {run}\n")).expect("a new version");
        // A write can be seen half done, and then once more.
        while reloaded.recv_timeout(Duration::from_secs(10)).expect("a reload") == 0 {}
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.remove(0);
    println!(
        "\nFrom a change of api.lua until it is in force, 20 runs; 50 ms of it wait for the end of a burst of changes"
    );
    println!("{:<28}{}", "", figures(&mut times));
}

/// The folder with its modules, to be written to.
fn copy(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("lib")).expect("a folder");
    for below in ["", "lib"] {
        for entry in std::fs::read_dir(from.join(below)).expect("a folder").flatten() {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), folder.path().join(below).join(entry.file_name())).expect("a copy");
            }
        }
    }
    folder
}

// === Tools ===

fn policy(source: &str, limits: &PolicyLimits) -> Arc<Policy> {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("p.lua"), source).expect("a file");
    let (set, errors) = PolicySet::load(folder.path(), &["p.lua"], limits);
    assert!(errors.is_empty(), "{errors:?}");
    Arc::clone(set.get("p.lua").expect("the policy"))
}

fn call(policy: &Policy, query: &str) -> Result<(), PolicyError> {
    let headers = HeaderMap::new();
    let req = RequestView {
        method: "GET",
        scheme: "https",
        host: "img.example.com",
        path: "/album/17/photo-0042.jpg",
        query,
        headers: &headers,
        normalized: &[],
        client_ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        bucket: "media",
        now: 1_700_000_000.0,
    };
    call_request(policy, &req).map(drop)
}

/// Median and maximum of milliseconds.
fn figures(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    match (values.get(values.len() / 2), values.last()) {
        (Some(median), Some(most)) => format!("{median:>9.2} ms{most:>9.2} ms"),
        _ => format!("{:>12}{:>12}", "-", "-"),
    }
}
