//! A table of requests and what is to be decided about them.

use crate::support::cli::run;
use crate::{folder, folder_with};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One request, as arguments of `dry-run`, and what must be among its explanation.
pub(crate) struct Case {
    says: String,
    args: Vec<String>,
    expected: Value,
}

pub(crate) fn case(says: &str, args: Vec<String>, expected: Value) -> Case {
    Case { says: says.to_owned(), args, expected }
}

/// A request, without an answer to it.
pub(crate) fn ask(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// A request, and the origin's response with these fields.
pub(crate) fn answered(args: &[&str], status: &str, fields: &[&str]) -> Vec<String> {
    let fields = fields.iter().flat_map(|field| ["--response-header", *field]);
    let all = args.iter().copied().chain(["--status", status]).chain(fields);
    all.map(str::to_owned).collect()
}

/// Decides all cases of a policy and tells all differences at once.
pub(crate) fn decide_all(policy: &str, cases: &[Case]) {
    assert!(cases.len() >= 5, "{policy} deserves more cases");
    decide_in(&folder(), policy, cases);
}

/// The same for the few cases that a disk tier makes a difference to.
pub(crate) fn decide_with_a_disk(policy: &str, cases: &[Case]) {
    let disk = "disk: { path: cache, capacity: 50GiB }";
    decide_in(&folder_with(&format!("memory: {{ capacity: 64MiB, max_object: 8MiB }}, {disk}")), policy, cases);
}

fn decide_in(dir: &TempDir, policy: &str, cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let mut args = vec!["dry-run", "-c", "tidegate.yaml", "--format", "json"];
        args.extend(case.args.iter().map(String::as_str));
        let output = run(&args, dir.path());
        assert_eq!(output.code, 0, "{}: {output:?}", case.says);
        let told = output.json();
        let mut found = Vec::new();
        compare("", &json!({"bucket": policy, "error": null}), &told, &mut found);
        compare("", &case.expected, &told, &mut found);
        wrong.extend(found.iter().map(|found| format!("{}:\n    {found}", case.says)));
    }
    assert!(wrong.is_empty(), "{policy}.lua\n  {}", wrong.join("\n  "));
}

/// Where `actual` is not as `expected` says. Objects may have more fields, all else must be equal.
fn compare(path: &str, expected: &Value, actual: &Value, wrong: &mut Vec<String>) {
    match expected.as_object() {
        Some(fields) => {
            for (name, value) in fields {
                compare(&format!("{path}.{name}"), value, &actual[name], wrong);
            }
        }
        None if expected == actual => {}
        None => wrong.push(format!("{path} is {actual} and not {expected}")),
    }
}

pub(crate) fn lookup(parts: &[&str]) -> Value {
    json!({"request": {"outcome": "lookup", "key": {"parts": parts}}})
}

pub(crate) fn bypass(reason: &str) -> Value {
    json!({"request": {"outcome": "bypass", "reason": reason, "key": null}})
}

/// Stored for so many seconds, which the policy or a field of the origin said.
pub(crate) fn stored(ttl: f64, from: &str) -> Value {
    json!({"response": {"outcome": "store", "ttl": ttl, "ttl_from": from}})
}

pub(crate) fn passed(reason: &str) -> Value {
    json!({"response": {"outcome": "pass", "reason": reason}})
}

/// Stored in these tiers.
pub(crate) fn kept_in(tiers: &[&str]) -> Value {
    json!({"response": {"outcome": "store", "tiers": tiers}})
}

/// Both, field by field.
pub(crate) fn and(mut one: Value, other: Value) -> Value {
    merge(&mut one, other);
    one
}

fn merge(into: &mut Value, from: Value) {
    match from {
        Value::Object(fields) if into.is_object() => fields.into_iter().for_each(|(k, v)| merge(&mut into[&k], v)),
        other => *into = other,
    }
}

pub(crate) const MINUTE: f64 = 60.0;
pub(crate) const HOUR: f64 = 60.0 * MINUTE;
pub(crate) const DAY: f64 = 24.0 * HOUR;
