//! What scripts see.

use tidegate::policy::{Input, declare, take_inputs};

use crate::support::{Request, deliver, eval, eval_error, headers, hit, key, policy, request, response};
use tidegate::policy::call_request;

#[test]
fn every_declared_example_is_true() {
    let mut asserts = String::new();
    let mut add = |object: &str, name: &str, example: &str| {
        asserts.push_str(&format!("if {object} then assert({example}, [==[{object}.{name}: {example}]==]) end\n"));
    };
    for object in declare::OBJECTS {
        for field in object.fields {
            add(object.name, field.name, field.example);
        }
    }
    for method in declare::QUERY {
        add("req", method.name, method.example);
    }
    for function in declare::LIBRARY {
        add("tidegate", function.name, function.example);
    }
    let source = format!(
        "local function check(req, res, entry, cache)\n{asserts}end\n
        return {{
            request = function(req) check(req) end,
            response = function(req, res) check(req, res) end,
            hit = function(req, entry) check(req, nil, entry) end,
            deliver = function(req, res, cache) check(req, res, nil, cache) end,
        }}"
    );
    let policy = policy(&source);
    request(&policy).unwrap();
    response(&policy).unwrap();
    hit(&policy).unwrap();
    deliver(&policy).unwrap();
}

#[test]
fn every_declared_decision_is_understood() {
    for decision in declare::DECISIONS {
        for field in decision.fields {
            let source =
                format!("return {{ {} = function(req, entry, cache) return {} end }}", decision.name, field.example);
            let source = if decision.name == "deliver" { source.replace("entry, cache", "res, cache") } else { source };
            let policy = policy(&source);
            let understood = match decision.name {
                "request" => request(&policy).map(drop),
                "response" => response(&policy).map(drop),
                "hit" => hit(&policy).map(drop),
                _ => deliver(&policy).map(drop),
            };
            assert_eq!(understood, Ok(()), "{}", field.example);
        }
    }
}

#[test]
fn an_unknown_field_of_an_object_is_an_error_with_the_nearest_name() {
    assert_eq!(eval_error("req.pth"), "policies/p.lua:1: request: req has no field \"pth\"; did you mean \"path\"?");
    assert!(eval_error("req.zzzzzzzz").contains("there are method, scheme, host"));
    assert!(eval_error("req[1]").contains("have names"));
    assert!(eval_error("req.query:onyl(\"w\")").contains("did you mean \"only\""));
    assert!(eval_error("req.query:only()").contains("at least one name"));
    assert!(eval_error("req.query:only({})").contains("must be a string"));
}

#[test]
fn headers_have_no_case_and_missing_ones_are_nil() {
    assert_eq!(eval("req.headers[\"ACCEPT-language\"]"), "de, en");
    assert_eq!(eval("req.headers.accept ~= nil"), "true");
    assert_eq!(eval("req.headers[\"x-not-there\"]"), "nil");
    assert_eq!(eval("req.headers[\"not a name\"]"), "nil");
}

#[test]
fn a_normalised_header_replaces_the_one_that_was_sent() {
    let policy = policy(
        r#"return { request = function(req) return { key = { req.headers["accept-language"], tostring(req.headers.accept), tostring(req.cookies.theme) } } end }"#,
    );
    let mut sent = Request::default();
    sent.normalized.push((http::header::ACCEPT_LANGUAGE, Some("de".parse().unwrap())));
    sent.normalized.push((http::header::ACCEPT, None));
    sent.normalized.push((http::header::COOKIE, Some("theme=light".parse().unwrap())));
    assert_eq!(call_request(&policy, &sent.view()).unwrap().key.unwrap().to_strings(), ["de", "nil", "light"]);
}

#[test]
fn repeated_headers_are_joined() {
    let policy =
        policy("return { request = function(req) return { key = { req.headers[\"x-a\"], req.headers.cookie } } end }");
    let sent = Request {
        headers: headers(&[("x-a", "1"), ("x-a", "2"), ("cookie", "a=1"), ("cookie", "b=2")]),
        ..Request::default()
    };
    assert_eq!(call_request(&policy, &sent.view()).unwrap().key.unwrap().to_strings(), ["1, 2", "a=1; b=2"]);
}

#[test]
fn query_values_are_as_sent() {
    assert_eq!(eval("req.query.w"), "640");
    assert_eq!(eval("req.query.nothing"), "nil");
    assert_eq!(eval("#req.query"), "4");
    assert_eq!(eval("req.query:without(\"utm_*\"):sorted()"), "h=480&w=640");
    assert_eq!(eval("req.query:only(\"w\").h"), "nil");
    assert_eq!(eval("req.query:only(\"w\"):only(\"w\").w"), "640");
    assert_eq!(eval("#req.query:only(\"nothing\")"), "0");
}

#[test]
fn objects_cannot_be_changed_or_looked_behind() {
    for attempt in [
        "req.path = 1",
        "req.headers.accept = 1",
        "req.query.w = 1",
        "rawset(req, \"path\", 1)",
        "setmetatable(req, {})",
        "getmetatable(req).__index = 1",
        "getmetatable(req.headers).__index = 1",
        "table.clear(req)",
        "table.insert(req, 1)",
        "table.clone(req)",
        "table.freeze(req)",
        "tidegate.hash = 1",
        "string.format = 1",
        "getmetatable(\"\").__index = {}",
        "x = 1",
        "_G.x = 1",
        "rawset(_G, \"x\", 1)",
        "setmetatable(_G, {})",
    ] {
        let policy = policy(&format!("return {{ request = function(req) {attempt} end }}"));
        assert!(request(&policy).is_err(), "{attempt}");
    }
    assert_eq!(eval("getmetatable(req)"), "locked");
    assert_eq!(eval("typeof(req.query)"), "query");
}

#[test]
fn assigning_a_global_in_a_hook_says_what_to_do() {
    let policy = policy("seen = 0\nreturn { request = function(req)\n seen = seen + 1 end }");
    let error = request(&policy).unwrap_err();
    assert_eq!(error.line, Some(3));
    assert!(error.message.contains("use a local variable"), "{error}");
}

#[test]
fn what_was_read_is_written_down() {
    let policy = policy(
        r#"return {
            request = function(req)
                local _ = req.path, req.headers.Accept, req.headers["x-none"], req.cookies.theme, req.query.w
                return { key = { req.query:only("h*"), req.path } }
            end,
            response = function(req, res) return { ttl = res.status, tags = { res.headers.etag } } end,
            hit = function(req, entry) if entry.age > 5 and entry.headers.etag then return {} end end,
            deliver = function(req, res, cache) return { headers = { x = cache.status .. tostring(req.query) } } end,
        }"#,
    );
    let inputs = || take_inputs().iter().map(Input::to_string).collect::<Vec<_>>();
    request(&policy).unwrap();
    assert_eq!(
        inputs(),
        ["req.path", "req.headers.accept", "req.headers.x-none", "req.cookies.theme", "req.query.w", "req.query.h*"]
    );
    assert_eq!(inputs(), [""; 0]);
    response(&policy).unwrap();
    assert_eq!(inputs(), ["res.status", "res.headers.etag"]);
    hit(&policy).unwrap();
    assert_eq!(inputs(), ["entry.age", "entry.headers.etag"]);
    deliver(&policy).unwrap();
    assert_eq!(inputs(), ["cache.status", "req.query"]);
}

#[test]
fn a_call_without_a_hook_read_nothing_whatever_was_read_before() {
    let reader = policy("return { request = function(req) return { key = { req.path } } end }");
    request(&reader).unwrap();
    hit(&reader).unwrap();
    assert_eq!(take_inputs(), []);
}

#[test]
fn an_object_kept_from_an_earlier_call_is_dead_or_shows_the_current_one() {
    let policy = policy(
        r#"local kept, only
        return { request = function(req)
            kept, only = kept or req, only or req.query:only("w")
            local ok, text = pcall(tostring, only)
            return { key = { kept.path, tostring(ok), ok and text or string.match(text, "used outside of its call") } }
        end }"#,
    );
    assert_eq!(key(&policy), ["/album/1.jpg", "true", "w=640"]);
    let other = Request { path: "/other", query: "w=1", ..Request::default() };
    let parts = call_request(&policy, &other.view()).unwrap().key.unwrap().to_strings();
    assert_eq!(parts, ["/other", "false", "used outside of its call"]);
}

#[test]
fn an_object_of_another_hook_is_dead() {
    let policy = policy(
        r#"local kept
        return {
            response = function(req, res) kept = res end,
            request = function(req) return { key = { tostring(kept.status) } } end,
        }"#,
    );
    response(&policy).unwrap();
    let error = request(&policy).unwrap_err();
    assert!(error.message.contains("res is used outside of its call"), "{error}");
}

#[test]
fn there_is_no_clock_no_randomness_and_no_io() {
    for name in [
        "os",
        "io",
        "debug",
        "package",
        "buffer",
        "vector",
        "print",
        "getfenv",
        "setfenv",
        "loadstring",
        "load",
        "dofile",
        "newproxy",
        "gcinfo",
        "collectgarbage",
        "math.random",
        "math.randomseed",
        "math.noise",
        "string.pack",
        "string.dump",
        "table.foreach",
    ] {
        assert_eq!(eval(name), "nil", "{name}");
    }
}
