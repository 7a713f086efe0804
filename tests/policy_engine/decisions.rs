//! What hooks may return, and what they are told when they return something else.

use std::time::Duration;

use tidegate::policy::decision::{HitDecision, Overrides, RequestDecision, ResponseDecision, TierName};
use tidegate::policy::{ErrorKind, Hook};

use crate::support::{deliver, hit, key, load_error, normalized, policy, request, response};

fn request_error(returned: &str) -> String {
    let policy = policy(&format!("return {{\n  request = function(req)\n    return {returned}\n  end,\n}}"));
    let error = request(&policy).unwrap_err();
    assert_eq!((error.kind, error.hook, error.line), (ErrorKind::Decision, Hook::Request, Some(2)), "{error}");
    assert!(error.to_string().starts_with("policies/p.lua:2: request: "), "{error}");
    error.message
}

fn response_of(returned: &str) -> ResponseDecision {
    response(&policy(&format!("return {{ response = function(req, res) return {returned} end }}"))).unwrap()
}

fn response_error(returned: &str) -> String {
    let policy = policy(&format!("return {{ response = function(req, res) return {returned} end }}"));
    let error = response(&policy).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Decision, "{error}");
    error.message
}

#[test]
fn a_policy_without_functions_decides_nothing() {
    let policy = policy("return {}");
    assert!(!policy.has(Hook::Request));
    assert_eq!(request(&policy).unwrap(), RequestDecision::default());
    assert_eq!(response(&policy).unwrap(), ResponseDecision::default());
    assert_eq!(hit(&policy).unwrap(), HitDecision::Serve);
    assert!(deliver(&policy).unwrap().headers.is_empty());
    assert_eq!(policy.calls(), 0, "nothing was entered");
}

#[test]
fn a_hook_may_return_nothing() {
    let policy = policy(
        "return { request = function() end, response = function() return nil end, hit = function() end, deliver = function() end }",
    );
    assert_eq!(request(&policy).unwrap(), RequestDecision::default());
    assert_eq!(response(&policy).unwrap(), ResponseDecision::default());
    assert_eq!(hit(&policy).unwrap(), HitDecision::Serve);
    assert!(deliver(&policy).unwrap().headers.is_empty());
    assert_eq!((policy.calls(), policy.errors()), (4, 0));
}

#[test]
fn bypass_takes_a_reason_or_true() {
    let bypass = |returned: &str| {
        request(&policy(&format!("return {{ request = function() return {{ bypass = {returned} }} end }}")))
            .unwrap()
            .bypass
    };
    assert_eq!(bypass("\"authorized\"").as_deref(), Some("authorized"));
    assert_eq!(bypass("true").as_deref(), Some("policy"));
    assert_eq!(bypass("false"), None);
    assert_eq!(bypass("nil"), None);
}

#[test]
fn a_key_is_made_of_text_numbers_booleans_and_queries() {
    let policy = policy(
        r#"return { request = function(req)
            return { key = { req.path, 640, 1.5, true, req.query:only("w"), "" } }
        end }"#,
    );
    assert_eq!(key(&policy), ["/album/1.jpg", "640", "1.5e0", "true", "w=640", ""]);
}

#[test]
fn a_key_may_be_one_value() {
    assert_eq!(key(&policy("return { request = function(req) return { key = req.path } end }")), ["/album/1.jpg"]);
    assert_eq!(
        key(&policy("return { request = function(req) return { key = req.query } end }")),
        ["w=640&h=480&utm_source=x&utm_id=1"]
    );
}

#[test]
fn a_key_that_was_filled_backwards_keeps_its_order() {
    let policy = policy(
        "return { request = function() local k = {} for i = 40, 1, -1 do k[i] = tostring(i) end return { key = k } end }",
    );
    let expected: Vec<String> = (1..=40).map(|i| i.to_string()).collect();
    assert_eq!(key(&policy), expected);
}

#[test]
fn a_key_with_a_hole_is_an_error_that_names_it() {
    let message = request_error("{ key = { req.path, req.query.nothing, \"x\" } }");
    assert_eq!(message, "key[2] is nil but key[3] is not; write `or \"\"` behind what can be missing");
    let message = request_error("{ key = { nil, nil, nil, req.path, nil } }");
    assert!(message.starts_with("key[1] is nil but key[4] is not"), "{message}");
}

#[test]
fn a_key_part_of_another_type_is_an_error_that_names_it() {
    assert!(request_error("{ key = { req.path, {} } }").starts_with("key[2] must be a string, a number"));
    assert!(request_error("{ key = { req.headers } }").starts_with("key[1] must be a string"));
    assert!(request_error("{ key = { 0/0 } }").contains("key[1] is NaN"));
    assert!(request_error("{ key = { w = 1 } }").contains("without the field \"w\""));
    assert!(request_error("{ key = {} }").contains("no parts"));
    assert!(request_error("{ key = function() end }").contains("not a function"));
}

#[test]
fn a_key_is_bounded() {
    assert!(request_error("{ key = { string.rep(\"x\", 100000) } }").contains("at most"));
    assert!(request_error("{ key = table.create(1000, \"x\") }").contains("at most"));
}

#[test]
fn an_unknown_field_is_an_error_with_the_nearest_name() {
    assert_eq!(request_error("{ bypas = \"x\" }"), "unknown field \"bypas\" in the decision; did you mean \"bypass\"?");
    assert_eq!(response_error("{ tll = 1 }"), "unknown field \"tll\" in the decision; did you mean \"ttl\"?");
    assert!(response_error("{ [1] = 1 }").contains("named fields"));
}

#[test]
fn what_is_not_a_table_is_an_error() {
    assert_eq!(request_error("\"x\""), "request must return a table or nothing, not a string");
    assert_eq!(request_error("false"), "request must return a table or nothing, not a boolean");
}

#[test]
fn a_response_decision_reads_every_field() {
    let decision = response_of(
        r#"{ ttl = "1h30m", stale_while_revalidate = 600, stale_if_error = "1d", vary = { "Accept-Encoding", "dpr" },
             tags = { "media", "album:1" }, tiers = { "disk", "memory", "disk" }, override = { "set-cookie", "private" } }"#,
    );
    assert_eq!(decision.ttl, Some(Duration::from_secs(5400)));
    assert_eq!(decision.stale_while_revalidate, Some(Duration::from_secs(600)));
    assert_eq!(decision.stale_if_error, Some(Duration::from_secs(86_400)));
    assert_eq!(decision.vary, ["accept-encoding", "dpr"]);
    assert_eq!(decision.tags, ["media", "album:1"]);
    assert_eq!(decision.tiers, Some(vec![TierName::Memory, TierName::Disk]));
    assert_eq!(decision.overrides, Overrides { set_cookie: true, private: true, ..Overrides::default() });
    assert_eq!(decision.decline, None);
}

#[test]
fn lists_may_be_single_strings() {
    let decision = response_of(r#"{ vary = "DPR", tags = "a", tiers = "redis", override = "no-store" }"#);
    assert_eq!(decision.vary, ["dpr"]);
    assert_eq!(decision.tags, ["a"]);
    assert_eq!(decision.tiers, Some(vec![TierName::Redis]));
    assert!(decision.overrides.no_store);
}

#[test]
fn store_false_declines_with_its_reason() {
    assert_eq!(response_of("{ store = false, reason = \"draft\" }").decline.as_deref(), Some("draft"));
    assert_eq!(response_of("{ store = false }").decline.as_deref(), Some("policy"));
    assert_eq!(response_of("{ store = true }").decline, None);
    assert!(response_error("{ reason = \"x\" }").contains("store = false"));
}

#[test]
fn a_ttl_must_be_a_time_that_can_be() {
    assert_eq!(response_of("{ ttl = 0.5 }").ttl, Some(Duration::from_millis(500)));
    assert_eq!(response_of("{ ttl = 0 }").ttl, Some(Duration::ZERO));
    assert!(response_error("{ ttl = -1 }").contains("ttl is negative"));
    assert!(response_error("{ ttl = 0/0 }").contains("ttl is not a number"));
    assert!(response_error("{ ttl = math.huge }").contains("ttl is inf"));
    assert!(response_error("{ ttl = \"soon\" }").contains("ttl: \"soon\" is not a duration"));
    assert!(response_error("{ ttl = \"60\" }").contains("ttl: \"60\" is not a duration"));
    assert!(response_error("{ ttl = true }").contains("ttl must be a number of seconds"));
    assert!(response_error("{ stale_if_error = -1 }").contains("stale_if_error is negative"));
}

#[test]
fn unknown_tiers_and_overrides_are_errors_with_the_nearest_name() {
    assert_eq!(response_error("{ tiers = { \"memry\" } }"), "tiers has no tier \"memry\"; did you mean \"memory\"?");
    assert_eq!(
        response_error("{ override = { \"setcookie\" } }"),
        "override has no rule \"setcookie\"; did you mean \"set-cookie\"?"
    );
    assert!(response_error("{ tiers = {} }").contains("empty"));
}

#[test]
fn vary_and_tags_are_checked_and_bounded() {
    assert!(response_error("{ vary = \"*\" }").contains("matches no request"));
    assert!(response_error("{ vary = { \"a b\" } }").contains("not the name of a header field"));
    assert!(response_error("{ tags = { string.rep(\"x\", 1025) } }").contains("1025 bytes"));
    assert!(response_error("{ tags = table.create(10001, \"x\") }").contains("at most 10000"));
    assert!(response_error("{ tags = { 1 } }").contains("tags[1] must be a string"));
    assert!(response_error("{ tags = { \"a\\nb\" } }").contains("printable"));
    assert_eq!(response_of("{ tags = table.create(10000, \"x\") }").tags.len(), 10_000);
}

#[test]
fn a_hit_is_served_revalidated_or_missed() {
    let of = |returned: &str| hit(&policy(&format!("return {{ hit = function(req, entry) return {returned} end }}")));
    assert_eq!(of("{}").unwrap(), HitDecision::Serve);
    assert_eq!(of("{ revalidate = true }").unwrap(), HitDecision::Revalidate);
    assert_eq!(of("{ miss = entry.age > 10 }").unwrap(), HitDecision::Miss);
    assert!(of("{ miss = true, revalidate = true }").unwrap_err().message.contains("exclude each other"));
    assert!(of("{ mis = true }").unwrap_err().message.contains("did you mean \"miss\""));
    assert!(of("{ miss = 1 }").unwrap_err().message.contains("true or false"));
}

#[test]
fn deliver_sets_and_removes_fields_in_order() {
    let policy = policy(
        r#"return { deliver = function(req, res, cache)
            return { headers = { ["X-Cache"] = cache.status, ["x-age"] = cache.age, server = false, ["a-b"] = " x " } }
        end }"#,
    );
    let decision = deliver(&policy).unwrap();
    let fields: Vec<_> =
        decision.headers.iter().map(|(n, v)| (n.as_str(), v.as_ref().map(|v| v.to_str().unwrap()))).collect();
    assert_eq!(fields, [("a-b", Some("x")), ("server", None), ("x-age", Some("30")), ("x-cache", Some("hit"))]);
}

#[test]
fn deliver_refuses_what_the_proxy_owns_and_what_http_forbids() {
    let of = |header: &str| {
        let source = format!("return {{ deliver = function() return {{ headers = {{ {header} }} }} end }}");
        deliver(&policy(&source)).unwrap_err().message
    };
    for name in ["content-length", "Transfer-Encoding", "connection", "upgrade"] {
        assert!(of(&format!("[{name:?}] = \"1\"")).contains("cannot be set"), "{name}");
    }
    assert!(of("x = true").contains("false to remove it"));
    assert!(of("x = {}").contains("false to remove it"));
    assert!(of("x = \"a\\r\\nset-cookie: b\"").contains("not a valid field value"));
    assert!(of("[\"a b\"] = \"1\"").contains("not the name of a header field"));
    assert!(of("[1] = \"1\"").contains("where the name of a header field belongs"));
    assert!(of("[\"x-a\"] = \"1\", [\"X-A\"] = \"2\"").contains("twice"));
}

#[test]
fn headers_are_normalised_natively_and_by_functions() {
    let policy = policy(
        r#"return { normalize = {
            ["Accept-Encoding"] = tidegate.encodings("br", "gzip"),
            ["x-device"] = function(value) return value and "mobile" or nil end,
            cookie = tidegate.cookies("theme"),
        } }"#,
    );
    let names: Vec<_> = policy.normalized_headers().map(|n| n.as_str().to_owned()).collect();
    assert_eq!(names, ["accept-encoding", "cookie", "x-device"]);
    let of = |fields: &[(&str, &str)]| -> Vec<Option<String>> {
        let all = normalized(&policy, fields).unwrap();
        all.iter().map(|(_, v)| v.as_ref().map(|v| v.to_str().unwrap().to_owned())).collect()
    };
    assert_eq!(of(&[]), [Some("identity".into()), None, None]);
    assert_eq!(
        of(&[("accept-encoding", "gzip, br"), ("x-device", "x"), ("cookie", "a=1; theme=t")]),
        [Some("br".into()), Some("theme=t".into()), Some("mobile".into())]
    );
}

#[test]
fn a_normaliser_that_returns_something_else_is_an_error() {
    let of = |body: &str| {
        let policy = policy(&format!("return {{ normalize = {{\n  dpr = function(v) {body} end }} }}"));
        let error = normalized(&policy, &[]).unwrap_err();
        assert_eq!((error.hook, error.line), (Hook::Normalize, Some(2)), "{error}");
        error.message
    };
    assert!(of("return 1").contains("must return a string or nil"));
    assert!(of("return \"a\\nb\"").contains("not a valid field value"));
    assert!(of("return string.rep(\"x\", 100000)").contains("at most"));
    assert!(of("error(\"no\")").contains("no"));
}

#[test]
fn a_native_normaliser_does_not_enter_the_vm() {
    let policy = policy("return { normalize = { [\"accept-encoding\"] = tidegate.encodings(\"br\") } }");
    normalized(&policy, &[("accept-encoding", "br")]).unwrap();
    assert_eq!(policy.calls(), 0);
}

#[test]
fn a_file_that_does_not_return_a_policy_is_an_error_with_a_line() {
    for (source, line, message) in [
        ("local x = 1\nreturn 5", Some(2), "the file must return a table with the policy's functions, not a number"),
        ("local x = 1", None, "the file must return a table with the policy's functions, not a nil"),
        (
            "return {\n  requst = function() end,\n}",
            Some(2),
            "unknown field \"requst\" in the returned table; did you mean \"request\"?",
        ),
        ("return {\n  request = 5,\n}", Some(2), "request must be a function, not a number"),
        (
            "return {\n  normalize = 5 }",
            Some(2),
            "normalize must be a table of header names and normalisers, not a number",
        ),
        (
            "return { normalize = {\n  [\"a b\"] = function() end } }",
            Some(2),
            "normalize has \"a b\", which is not the name of a header field",
        ),
        (
            "return { normalize = {\n\n  dpr = \"x\" } }",
            Some(3),
            "normalize[\"dpr\"] must be a function or a normaliser such as tidegate.encodings(\"br\", \"gzip\"), not a string",
        ),
    ] {
        let error = load_error(source);
        assert_eq!((error.kind, error.line, error.message.as_str()), (ErrorKind::Load, line, message), "{source}");
    }
}

#[test]
fn syntax_and_top_level_errors_have_file_and_line() {
    let error = load_error("return {\n  request = function(\n}");
    assert_eq!((error.kind, error.line), (ErrorKind::Syntax, Some(3)), "{error}");
    let error = load_error("local a\n\nlocal b = a.c\nreturn {}");
    assert_eq!((error.kind, error.line), (ErrorKind::Runtime, Some(3)), "{error}");
    assert_eq!(error.to_string(), "policies/p.lua:3: load: attempt to index nil with 'c'");
    let error = load_error("return { normalize = { a = tidegate.encodings(1) } }");
    assert_eq!(
        error.to_string(),
        "policies/p.lua:1: load: tidegate.encodings: argument 1 must be a string, not a number"
    );
}

#[test]
fn errors_that_are_not_text_are_described_with_their_line() {
    let of =
        |value: &str| request(&policy(&format!("return {{ request = function()\n error({value}) end }}"))).unwrap_err();
    for value in ["{}", "nil", "setmetatable({}, { __tostring = function() while true do end end })", "function() end"]
    {
        let error = of(value);
        assert_eq!((error.kind, error.line), (ErrorKind::Runtime, Some(2)), "{value}: {error}");
        assert!(error.message.starts_with("the script raised"), "{error}");
    }
    assert_eq!(of("\"plain\", 0").to_string(), "policies/p.lua:2: request: plain");
    assert_eq!(of("42").message, "42");
    assert!(of("string.rep(\"x\", 100000)").message.len() <= 500);
    assert!(!of("\"a\\27[31m\\0b\"").message.contains('\x1b'));
}
