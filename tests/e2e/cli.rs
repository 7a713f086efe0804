//! The command line, run as people run it.

use crate::support::cli::run;
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

const CONFIG: &str = "\
server:
  listen: [\"127.0.0.1:8080\"]
cache:
  memory: { capacity: 64MiB, max_object: 1MiB }
origins:
  main: { http: { servers: [\"127.0.0.1:9\"] } }
buckets:
  media:
    match: { hosts: [\"img.test\"], path: \"/\" }
    origin: main
    policy: media.lua
";

const POLICY: &str = r#"return {
  request = function(req)
    if req.headers.authorization then return { bypass = "authorized" } end
    return { key = { req.path, req.query:only("w") } }
  end,
  response = function(req, res)
    if res.status >= 500 then return { store = false, reason = "broken" } end
    return { ttl = "1h30m", stale_if_error = "1d", tags = { "media" }, tiers = { "memory" } }
  end,
}
"#;

/// A folder with a good configuration and policy, and then these files over it.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("policies")).unwrap();
    for (name, text) in [("tidegate.yaml", CONFIG), ("policies/media.lua", POLICY)].iter().chain(files) {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// `dry-run --format json` with more arguments, on the good folder.
fn dry_run(args: &[&str]) -> Value {
    let all = [&["dry-run", "-c", "tidegate.yaml", "--format", "json"], args].concat();
    let output = run(&all, folder(&[]).path());
    assert_eq!(output.code, 0, "{output:?}");
    output.json()
}

#[test]
fn a_good_folder_checks() {
    let output = run(&["check", "-c", "tidegate.yaml"], folder(&[]).path());
    assert_eq!(output.code, 0, "{output:?}");
}

/// One mistake: the file with it, and where the report must point.
fn mistakes() -> [(&'static str, String, &'static str); 5] {
    let config = |from: &str, to: &str| CONFIG.replace(from, to);
    [
        ("tidegate.yaml", config("capacity: 64MiB", "capcity: 64MiB"), "tidegate.yaml:4"),
        ("tidegate.yaml", config("max_object: 1MiB", "max_object: 1 potato"), "tidegate.yaml:4"),
        ("tidegate.yaml", config("origin: main", "origin: mian"), "tidegate.yaml:10"),
        ("tidegate.yaml", config("policy: media.lua", "policy: none.lua"), "tidegate.yaml:11"),
        ("policies/media.lua", POLICY.replace("function(req, res)", "function(req, res"), "media.lua:"),
    ]
}

#[test]
fn each_mistake_is_reported_with_file_and_line() {
    for (file, text, place) in mistakes() {
        let output = run(&["check", "-c", "tidegate.yaml"], folder(&[(file, &text)]).path());
        assert_eq!(output.code, 1, "{place}: {output:?}");
        assert!(output.all().contains(place), "{place} is not in {output:?}");
    }
}

#[test]
fn an_unknown_key_comes_with_the_nearest_right_name() {
    let text = CONFIG.replace("capacity: 64MiB", "capcity: 64MiB");
    let output = run(&["check", "-c", "tidegate.yaml"], folder(&[("tidegate.yaml", &text)]).path());
    assert!(output.all().contains("capcity") && output.all().contains("capacity"), "{output:?}");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let config = CONFIG.replace("1MiB", "1 potato").replace("origin: main", "origin: mian");
    let policy = POLICY.replace("function(req, res)", "function(req, res");
    let dir = folder(&[("tidegate.yaml", &config), ("policies/media.lua", &policy)]);
    let output = run(&["check", "-c", "tidegate.yaml"], dir.path());
    assert_eq!(output.code, 1);
    for place in ["tidegate.yaml:4", "tidegate.yaml:10", "media.lua:"] {
        assert!(output.all().contains(place), "{place} is not in {output:?}");
    }
}

#[test]
fn a_policy_with_an_unknown_hook_does_not_check() {
    let policy = POLICY.replace("request = function", "reqeust = function");
    let output = run(&["check", "-c", "tidegate.yaml"], folder(&[("policies/media.lua", &policy)]).path());
    assert_eq!(output.code, 1);
    assert!(output.all().contains("media.lua") && output.all().contains("reqeust"), "{output:?}");
}

#[test]
fn a_missing_environment_variable_is_a_mistake_and_a_default_mends_it() {
    for (value, code) in [("${TIDEGATE_TEST_UNSET}", 1), ("${TIDEGATE_TEST_UNSET:-secret}", 0)] {
        let text = format!("{CONFIG}admin:\n  token: {value}\n");
        let output = run(&["check", "-c", "tidegate.yaml"], folder(&[("tidegate.yaml", &text)]).path());
        assert_eq!(output.code, code, "{value}: {output:?}");
    }
}

#[test]
fn serve_refuses_a_wrong_file() {
    let text = CONFIG.replace("capacity: 64MiB", "capcity: 64MiB");
    let output = run(&["serve", "-c", "tidegate.yaml"], folder(&[("tidegate.yaml", &text)]).path());
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("tidegate.yaml:4"), "{output:?}");
}

#[test]
fn wrong_use_exits_with_2_and_speaks_on_stderr() {
    for args in [
        &["check", "-c", "nowhere.yaml"][..],
        &["serve", "-c", "nowhere.yaml"],
        &["dry-run", "-c", "nowhere.yaml", "http://img.test/"],
        &["check", "--no-such-flag"],
        &["no-such-command"],
    ] {
        let output = run(args, folder(&[]).path());
        assert_eq!(output.code, 2, "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn dry_run_explains_a_lookup() {
    let json = dry_run(&["http://img.test/cat.jpg?w=10&session=1"]);
    assert_eq!((&json["bucket"], &json["policy"]["file"]), (&"media".into(), &"policies/media.lua".into()));
    assert!(!json["policy"]["version"].is_null());
    assert_eq!(json["request"]["outcome"], "lookup");
    let parts = json["request"]["key"]["parts"].as_array().expect("key parts");
    assert!(parts.contains(&"/cat.jpg".into()) && !parts.iter().any(|part| part.to_string().contains("session")));
    assert!(json["request"]["key"]["hash"].is_string());
    assert!(json["request"]["vary"].is_object() && json["inputs"].is_array() && json["micros"].is_number());
    assert!(json["response"].is_null() && json["error"].is_null());
}

#[test]
fn dry_run_explains_a_bypass() {
    let json = dry_run(&["-H", "Authorization: Basic eDp5", "http://img.test/cat.jpg"]);
    assert_eq!(json["request"]["outcome"], "bypass");
    assert_eq!(json["request"]["reason"], "authorized");
    assert!(json["inputs"].to_string().contains("authorization"), "{json}");
}

#[test]
fn dry_run_explains_what_would_be_stored() {
    let json = dry_run(&["--status", "200", "--response-header", "content-type: image/png", "http://img.test/cat.jpg"]);
    let response = &json["response"];
    for (field, value) in [
        ("outcome", Value::from("store")),
        ("ttl", 5400.into()),
        ("stale_if_error", 86_400.into()),
        ("tags", serde_json::json!(["media"])),
        ("tiers", serde_json::json!(["memory"])),
    ] {
        // Durations may be written with a fraction.
        let same = response[field] == value || (value.is_number() && response[field].as_f64() == value.as_f64());
        assert!(same, "{field} in {response}");
    }
    assert!(response["ttl_from"].is_string());
}

#[test]
fn dry_run_explains_why_a_response_would_not_be_stored() {
    let declined = dry_run(&["--status", "500", "http://img.test/cat.jpg"]);
    assert_eq!((&declined["response"]["outcome"], &declined["response"]["reason"]), (&"pass".into(), &"broken".into()));
    let cookie = dry_run(&["--status", "200", "--response-header", "Set-Cookie: id=1", "http://img.test/cat.jpg"]);
    assert_eq!(cookie["response"]["outcome"], "pass");
    assert!(cookie["response"]["reason"].is_string());
}

#[test]
fn dry_run_reports_a_failing_policy_with_its_line() {
    let policy = "return {\n  request = function(req)\n    return { kee = { req.path } }\n  end,\n}\n";
    let dir = folder(&[("policies/media.lua", policy)]);
    let json = run(&["dry-run", "-c", "tidegate.yaml", "--format", "json", "http://img.test/a"], dir.path()).json();
    let error = &json["error"];
    assert!(error["file"].as_str().is_some_and(|file| file.ends_with("media.lua")), "{json}");
    assert!(error["line"].as_u64().is_some_and(|line| (2..=3).contains(&line)), "{json}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("kee") && text.contains("key")), "{json}");
    assert_eq!(json["request"]["outcome"], "bypass");
}

#[test]
fn dry_run_says_the_same_twice() {
    let dir = folder(&[]);
    let args = ["dry-run", "-c", "tidegate.yaml", "--format", "json", "--status", "200", "http://img.test/a?w=1"];
    let once = run(&args, dir.path()).without_times();
    assert!(once.contains("\"micros\": [TIME]"), "{once}");
    assert_eq!(once, run(&args, dir.path()).without_times());
}

#[test]
fn dry_run_speaks_to_people_without_colour_in_a_pipe() {
    let output = run(&["dry-run", "-c", "tidegate.yaml", "http://img.test/cat.jpg"], folder(&[]).path());
    assert_eq!(output.code, 0);
    assert!(output.stdout.contains("media") && output.stdout.contains("/cat.jpg"), "{output:?}");
    assert!(!output.stdout.contains('\x1b'));
}

#[test]
fn version_and_help_are_on_stdout() {
    let dir = folder(&[]);
    let version = run(&["--version"], dir.path());
    assert_eq!((version.code, version.stdout.trim()), (0, concat!("tidegate ", env!("CARGO_PKG_VERSION"))));
    let help = run(&["--help"], dir.path());
    assert_eq!(help.code, 0);
    for command in ["serve", "check", "dry-run", "completions"] {
        assert!(help.stdout.contains(command), "{command}");
    }
}

#[test]
fn completions_are_written_for_each_shell() {
    let dir = folder(&[]);
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell], dir.path());
        assert!(output.code == 0 && output.stdout.contains("dry-run"), "{shell}: {output:?}");
    }
}
