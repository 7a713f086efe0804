//! Files that change while they are in use.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tidegate::policy::{ErrorKind, Hook, PolicyHost, PolicySet, Watcher, used_memory};

use crate::support::{Folder, LIMITS, PATIENT, key, request};

fn constant(key: &str) -> String {
    format!("return {{ request = function() return {{ key = {key:?} }} end }}")
}

fn host(folder: &Folder, names: &[&str]) -> PolicyHost {
    let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    PolicyHost::new(&folder.path(), &names, &PATIENT).0
}

#[test]
fn the_version_is_that_of_the_files_content() {
    let folder =
        Folder::new(&[("a.lua", "return {}"), ("b.lua", "local m = require(\"m\") return {}"), ("m.lua", "return {}")]);
    let (set, _) = folder.load(&["a.lua", "b.lua"], &PATIENT);
    let policy = set.get("a.lua").unwrap();
    // printf 'return {}' | sha256sum
    assert_eq!(policy.version(), "7df8f0cd9e1c");
    assert_eq!((policy.name(), policy.file()), ("a.lua", "policies/a.lua"));
    let before = set.get("b.lua").unwrap().version().to_owned();
    folder.write("m.lua", "return { x = 1 }");
    let (set, _) = folder.load(&["b.lua"], &PATIENT);
    assert_ne!(set.get("b.lua").unwrap().version(), before, "a module counts");
}

#[test]
fn a_changed_file_answers_on_the_next_call() {
    let folder = Folder::new(&[("a.lua", &constant("one")), ("b.lua", &constant("b"))]);
    let host = host(&folder, &["a.lua", "b.lua"]);
    assert_eq!(key(&host.get("a.lua").unwrap()), ["one"]);
    folder.write("a.lua", constant("two"));
    let unchanged = host.get("b.lua").unwrap();
    let reloaded = host.reload();
    assert_eq!(reloaded.changed.iter().map(|p| p.name()).collect::<Vec<_>>(), ["a.lua"]);
    assert_eq!(key(&host.get("a.lua").unwrap()), ["two"]);
    assert!(Arc::ptr_eq(&unchanged, &host.get("b.lua").unwrap()), "what did not change is kept");
    assert_eq!(host.get("a.lua").unwrap().calls(), 2, "counters go on");
}

#[test]
fn a_broken_file_keeps_the_last_good_version_and_its_error() {
    let folder = Folder::new(&[("a.lua", &constant("good"))]);
    let (host, _) = PolicyHost::new(&folder.path(), &["a.lua".into()], &LIMITS);
    let version = host.get("a.lua").unwrap().version().to_owned();
    for broken in ["return {", "while true do end", "return { requst = 1 }", "error(\"x\")"] {
        folder.write("a.lua", broken);
        let reloaded = host.reload();
        assert_eq!((reloaded.errors.len(), reloaded.new_errors.len()), (1, 1), "{broken}");
        assert!(host.reload().new_errors.is_empty() || broken.starts_with("while"), "{broken}: told once");
        let policy = host.get("a.lua").unwrap();
        assert!(policy.error().is_some());
        assert_eq!(policy.version(), version);
        assert_eq!(key(&policy), ["good"]);
    }
    folder.write("a.lua", constant("good"));
    assert!(host.reload().errors.is_empty());
    assert_eq!(host.get("a.lua").unwrap().error(), None);
}

#[test]
fn a_removed_file_keeps_the_last_good_version() {
    let folder = Folder::new(&[("a.lua", &constant("good"))]);
    let host = host(&folder, &["a.lua"]);
    std::fs::remove_file(folder.path().join("a.lua")).unwrap();
    let errors = host.reload().errors;
    assert!(errors[0].message.contains("cannot read the file"), "{errors:?}");
    assert_eq!(key(&host.get("a.lua").unwrap()), ["good"]);
}

#[test]
fn a_file_that_never_worked_fails_every_call_with_its_error() {
    let folder = Folder::new(&[("a.lua", "return {")]);
    let host = host(&folder, &["a.lua", "b.lua"]);
    let policy = host.get("a.lua").unwrap();
    assert!(policy.has(Hook::Request) && policy.has(Hook::Deliver));
    assert_eq!(request(&policy).unwrap_err().kind, ErrorKind::Syntax);
    assert_eq!(request(&host.get("b.lua").unwrap()).unwrap_err().kind, ErrorKind::Load);
    assert_eq!((policy.calls(), policy.errors(), policy.version()), (1, 1, ""));
    folder.write("a.lua", constant("now"));
    host.reload();
    assert_eq!(key(&host.get("a.lua").unwrap()), ["now"]);
}

#[test]
fn a_rollback_holds_until_the_file_changes() {
    let folder = Folder::new(&[("a.lua", &constant("one"))]);
    let host = host(&folder, &["a.lua"]);
    assert!(host.rollback("a.lua").is_none());
    folder.write("a.lua", constant("two"));
    host.reload();
    assert_eq!(key(&host.rollback("a.lua").unwrap()), ["one"]);
    host.reload();
    assert_eq!(key(&host.get("a.lua").unwrap()), ["one"], "the file is still the one that was rolled back");
    folder.write("a.lua", constant("three"));
    host.reload();
    assert_eq!(key(&host.get("a.lua").unwrap()), ["three"]);
    assert_eq!(key(&host.rollback("a.lua").unwrap()), ["one"]);
}

#[test]
fn modules_are_found_in_sub_folders_with_either_ending_and_run_once() {
    let folder = Folder::new(&[
        (
            "a.lua",
            "local one, two = require(\"lib/m\"), require(\"lib/m\")\nassert(one == two)\nreturn { request = function() return { key = one.key .. require_again() } end }\n",
        ),
        ("lib/m.luau", "return { key = require(\"n\") }"),
        ("n.lua", "return \"n\""),
    ]);
    folder.write("a.lua", "local one, two = require(\"lib/m\"), require(\"lib/m\")\nassert(one == two)\nreturn { request = function() return { key = one.key } end }");
    let (set, errors) = folder.load(&["a.lua"], &PATIENT);
    assert_eq!(errors, []);
    assert_eq!(key(set.get("a.lua").unwrap()), ["n"]);
}

#[test]
fn require_in_a_hook_says_where_it_belongs() {
    let folder = Folder::new(&[
        ("a.lua", "return { request = function()\n return { key = require(\"m\") } end }"),
        ("m.lua", "return 1"),
    ]);
    let (set, _) = folder.load(&["a.lua"], &PATIENT);
    let error = request(set.get("a.lua").unwrap()).unwrap_err();
    assert_eq!(error.line, Some(2));
    assert!(error.message.contains("move it to the top of the file"), "{error}");
}

#[test]
fn modules_that_require_each_other_are_an_error() {
    let folder = Folder::new(&[
        ("a.lua", "require(\"b\")\nreturn {}"),
        ("b.lua", "return { require(\"c\") }"),
        ("c.lua", "return { require(\"b\") }"),
    ]);
    let (_, errors) = folder.load(&["a.lua"], &PATIENT);
    assert_eq!(
        errors[0].to_string(),
        "policies/c.lua:1: load: require(\"b\"): the module is being loaded already; modules must not require each other in a circle"
    );
}

#[test]
fn errors_in_modules_name_the_module() {
    let folder = Folder::new(&[
        ("syntax.lua", "require(\"broken\")\nreturn {}"),
        ("broken.lua", "\nlocal ="),
        ("late.lua", "local m = require(\"m\")\nreturn { request = m.request, response = m.response }"),
        (
            "m.lua",
            "local m = {}\nfunction m.request()\n error(\"no\")\nend\nfunction m.response() return 5 end\nreturn m",
        ),
    ]);
    let (set, errors) = folder.load(&["syntax.lua", "late.lua"], &PATIENT);
    assert_eq!((&*errors[0].file, errors[0].line, errors[0].kind), ("policies/broken.lua", Some(2), ErrorKind::Syntax));
    let late = set.get("late.lua").unwrap();
    assert_eq!(request(late).unwrap_err().to_string(), "policies/m.lua:3: request: no");
    let error = crate::support::response(late).unwrap_err();
    assert_eq!((&*error.file, error.line), ("policies/m.lua", Some(5)), "where the function that returned it is");
}

#[test]
fn a_thousand_reloads_leave_memory_flat() {
    let folder = Folder::new(&[("a.lua", "return {}")]);
    let host = host(&folder, &["a.lua"]);
    let source = |i: usize| {
        format!("local t = {{}} for i = 1, 1000 do t[i] = tostring(i) .. \"{i}\" end {}", constant(&i.to_string()))
    };
    let mut settled = 0;
    for i in 0..1000 {
        folder.write("a.lua", source(i));
        host.reload();
        assert_eq!(key(&host.get("a.lua").unwrap()), [i.to_string()]);
        if i == 50 {
            settled = used_memory();
        }
    }
    assert!(used_memory() < settled + (256 << 10), "{settled} bytes became {}", used_memory());
}

#[test]
fn threads_see_a_new_version_while_they_call() {
    let folder = Folder::new(&[("a.lua", &constant("0"))]);
    let host = host(&folder, &["a.lua"]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while last < 30 {
                    let now: u32 = key(&host.get("a.lua").unwrap())[0].parse().unwrap();
                    assert!(now >= last, "{now} after {last}");
                    last = now;
                }
            });
        }
        for i in 1..=30 {
            folder.write("a.lua", constant(&i.to_string()));
            assert!(host.reload().errors.is_empty());
        }
    });
}

#[test]
fn limits_can_change_without_a_new_version() {
    let folder = Folder::new(&[("a.lua", &constant("x"))]);
    let (set, _) = folder.load(&["a.lua"], &PATIENT);
    let tight = tidegate::config::PolicyLimits { memory: 4 << 20, ..PATIENT };
    let (next, errors) = PolicySet::reload(&set, &folder.path(), &["a.lua"], &tight);
    assert_eq!(errors, []);
    let (before, after) = (set.get("a.lua").unwrap(), next.get("a.lua").unwrap());
    assert!(!Arc::ptr_eq(before, after));
    assert_eq!((before.version(), before.loaded_at()), (after.version(), after.loaded_at()));
    assert_eq!(key(after), ["x"]);
}

// === The watcher ===

struct Seen {
    changes: mpsc::Receiver<()>,
    _watcher: Watcher,
}

fn watch(folder: &Folder) -> Seen {
    let (seen, changes) = mpsc::channel();
    let watcher = Watcher::start(&folder.path(), move || seen.send(()).unwrap_or(())).unwrap();
    Seen { changes, _watcher: watcher }
}

impl Seen {
    fn after(&self, what: &str, change: impl FnOnce()) {
        let start = Instant::now();
        change();
        assert!(self.changes.recv_timeout(Duration::from_secs(10)).is_ok(), "{what} was not seen");
        // A busy machine gets some grace; a quiet one needs about 60 ms.
        assert!(start.elapsed() < Duration::from_secs(3), "{what} took {:?}", start.elapsed());
        // What a change looks like in two steps may be told twice.
        while self.changes.recv_timeout(Duration::from_millis(200)).is_ok() {}
    }
}

#[test]
fn every_way_to_change_a_file_is_seen() {
    let folder = Folder::new(&[("a.lua", "return {}"), ("lib/m.lua", "return {}")]);
    let path = folder.path();
    let seen = watch(&folder);
    seen.after("a write", || folder.write("a.lua", "return { }"));
    seen.after("a write in a sub-folder", || folder.write("lib/m.lua", "return { }"));
    seen.after("a new file", || folder.write("b.lua", "return {}"));
    seen.after("a rename", || std::fs::rename(path.join("b.lua"), path.join("c.lua")).unwrap());
    seen.after("a removal", || std::fs::remove_file(path.join("c.lua")).unwrap());
    seen.after("a replacement", || {
        std::fs::write(path.join(".a.lua.tmp"), "return {  }").unwrap();
        std::fs::rename(path.join(".a.lua.tmp"), path.join("a.lua")).unwrap();
    });
    seen.after("a new sub-folder", || folder.write("new/x.lua", "return {}"));
    seen.after("a write in the new sub-folder", || folder.write("new/x.lua", "return { }"));
}

#[test]
fn a_swap_of_links_as_kubernetes_does_it_is_seen() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new(&[("..v1/a.lua", &constant("1")), ("..v2/a.lua", &constant("2"))]);
    let path = folder.path();
    symlink("..v1", path.join("..data")).unwrap();
    symlink("..data/a.lua", path.join("a.lua")).unwrap();
    let host = Arc::new(host(&folder, &["a.lua"]));
    assert_eq!(key(&host.get("a.lua").unwrap()), ["1"]);
    let seen = watch(&folder);
    seen.after("the swap", || {
        symlink("..v2", path.join("..data_tmp")).unwrap();
        std::fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    });
    host.reload();
    assert_eq!(key(&host.get("a.lua").unwrap()), ["2"]);
}

#[test]
fn a_file_behind_a_link_to_another_folder_is_seen() {
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("real.lua");
    crate::support::touch(&file, "return {}");
    let folder = Folder::new(&[]);
    std::os::unix::fs::symlink(&file, folder.path().join("a.lua")).unwrap();
    let seen = watch(&folder);
    seen.after("a write behind the link", || crate::support::touch(&file, "return { }"));
}

#[test]
fn a_watcher_stops_when_it_is_dropped() {
    let folder = Folder::new(&[("a.lua", "return {}")]);
    let (sent, changes) = mpsc::channel::<()>();
    let watcher = Watcher::start(&folder.path(), move || sent.send(()).unwrap_or(())).unwrap();
    drop(watcher);
    assert_eq!(changes.recv(), Err(mpsc::RecvError), "its thread and what it held are gone");
}

#[test]
fn nothing_is_told_while_nothing_changes() {
    let folder = Folder::new(&[("a.lua", "return {}")]);
    let seen = watch(&folder);
    for _ in 0..50 {
        let _ = std::fs::read(folder.path().join("a.lua"));
    }
    assert!(seen.changes.recv_timeout(Duration::from_millis(1200)).is_err());
}
