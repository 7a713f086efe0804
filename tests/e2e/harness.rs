//! The origin and the client tried on each other, so that a failing test speaks of the daemon and not of them.

use crate::support::cache_status::CacheStatus;
use crate::support::call::Connection;
use crate::support::settings::Settings;
use crate::support::wire::Headers;
use crate::support::{Call, Ending, Gate, Origin, Reply, cli};

fn get(origin: &Origin, target: &str) -> Call {
    Call::new(origin.addr(), "GET", target)
}

#[tokio::test]
async fn a_fixed_reply_arrives_whole_and_the_request_is_recorded_as_sent() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::status(201).header("x-one", "1").header("x-one", "2").piece("body"));
    let response =
        Call::new(origin.addr(), "POST", "/a?x=%2F").header("X-A", "1").header("x-a", "2").body("sent").await;
    assert_eq!((response.status, response.text().as_str(), response.ending), (201, "body", Ending::Clean));
    assert_eq!(response.headers.all("X-One"), ["1", "2"]);
    let seen = origin.last("/a");
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.body.as_slice()), ("POST", "/a?x=%2F", &b"sent"[..]));
    assert_eq!(seen.header("x-a").as_deref(), Some("1, 2"));
}

#[tokio::test]
async fn chunked_bodies_pass_both_ways() {
    let origin = Origin::start().await;
    origin.on_fn("/a", |seen| Reply::ok(&seen.body).piece("!").chunked());
    let response = Call::new(origin.addr(), "PUT", "/a").chunked_body("in chunks").await;
    assert_eq!((response.text().as_str(), response.ending), ("in chunks!", Ending::Clean));
}

#[tokio::test]
async fn a_body_without_length_ends_with_its_connection() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::ok("until the end").until_close());
    let response = get(&origin, "/a").await;
    assert_eq!((response.text().as_str(), response.ending), ("until the end", Ending::Clean));
}

#[tokio::test]
async fn a_short_body_and_a_missing_final_chunk_are_told_from_a_clean_end() {
    let origin = Origin::start().await;
    origin.on("/short", Reply::ok("half").claim_length(8).cut());
    origin.on("/chunks", Reply::ok("half").chunked().cut());
    for path in ["/short", "/chunks"] {
        let response = get(&origin, path).await;
        assert_eq!((response.text().as_str(), response.ending), ("half", Ending::Cut), "{path}");
    }
}

#[tokio::test]
async fn a_gate_holds_the_head_or_the_rest_of_a_body() {
    let origin = Origin::start().await;
    let (head, body) = (Gate::closed(), Gate::closed());
    origin.on("/a", Reply::ok("first").hold(&body).piece("second").after(&head));
    let call = tokio::spawn(get(&origin, "/a").open());
    origin.wait_for_requests("/a", 1).await;
    assert!(!call.is_finished());
    head.open();
    let mut exchange = call.await.unwrap();
    exchange.read_until("first").await;
    body.open();
    assert_eq!(exchange.rest().await.text(), "firstsecond");
}

#[tokio::test]
async fn an_origin_can_hang_up_and_speak_garbage() {
    let origin = Origin::start().await;
    origin.on("/nothing", Reply::hang_up());
    origin.on("/garbage", Reply::garbage("not HTTP"));
    assert!(get(&origin, "/nothing").attempt().await.is_err());
    assert!(get(&origin, "/garbage").attempt().await.is_err());
}

#[tokio::test]
async fn connections_are_kept_and_counted() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::ok("a").chunked());
    let mut kept = Connection::to(origin.addr()).await;
    for _ in 0..2 {
        assert_eq!(kept.call(get(&origin, "/a")).await.text(), "a");
    }
    get(&origin, "/a").await;
    let seen = origin.requests("/a");
    assert_eq!(seen.iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 0, 1]);
    assert!(seen.windows(2).all(|pair| pair[0].at <= pair[1].at));
}

#[tokio::test]
async fn conditionals_head_and_informational_responses_follow_http() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::ok("body").etag("\"v1\"").informational(103, "link: </s.css>; rel=preload"));
    let unchanged = get(&origin, "/a").header("if-none-match", "\"v1\"").await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let changed = get(&origin, "/a").header("if-none-match", "\"v0\"").await;
    assert_eq!((changed.status, changed.text().as_str()), (200, "body"));
    let head = Call::new(origin.addr(), "HEAD", "/a").await;
    assert_eq!((head.header("content-length").as_deref(), head.body.len()), (Some("4"), 0));
}

#[tokio::test]
async fn interim_responses_are_shown_with_the_final_one_or_alone() {
    let origin = Origin::start().await;
    origin.on("/a", Reply::ok("body").informational(102, "").informational(103, "link: </a>\r\nx-a: 1"));
    let response = get(&origin, "/a").version("HTTP/1.0").await;
    let seen: Vec<_> = response.interim.iter().map(|one| (one.status, one.headers.get("x-a"))).collect();
    assert_eq!(seen, [(102, None), (103, Some("1".to_owned()))]);
    assert_eq!((response.version.as_str(), response.text().as_str()), ("HTTP/1.1", "body"));
    origin.on("/hint", Reply::garbage("HTTP/1.1 103 Hint\r\n\r\n").stays_open());
    let mut kept = Connection::to(origin.addr()).await;
    kept.send("GET /hint HTTP/1.1\r\n\r\nHEAD /a HTTP/1.1\r\n\r\n").await;
    assert_eq!(kept.interim().await.status, 103);
    assert_eq!(kept.answer_to("HEAD").await.map(|head| (head.status, head.body.len())), Some((200, 0)));
}

#[tokio::test]
async fn replies_come_in_turn_and_unknown_paths_have_a_fallback() {
    let origin = Origin::start().await;
    origin.on_each("/a", [Reply::ok("1"), Reply::ok("2")]);
    for expected in ["1", "2", "2"] {
        assert_eq!(get(&origin, "/a").await.text(), expected);
    }
    assert_eq!(get(&origin, "/b").await.status, 404);
    origin.otherwise(|seen| Reply::ok(seen.path()));
    assert_eq!(get(&origin, "/b?c").await.text(), "/b");
}

#[test]
fn cache_status_is_read_with_its_quotes() {
    let field = r#"inner; hit, tidegate; fwd=stale; fwd-status=304; stored; collapsed; ttl=-3; detail="a, b; c""#;
    let status = CacheStatus::of(&Headers(vec![("Cache-Status".to_owned(), field.to_owned())]));
    assert_eq!((status.fwd(), status.detail()), ("stale", "a, b; c"));
    assert_eq!((status.hit, status.stored, status.collapsed), (false, true, true));
    assert_eq!((status.fwd_status, status.ttl), (Some(304), Some(-3)));
}

#[test]
fn settings_become_nested_yaml_and_a_key_replaces_what_stood_under_it() {
    let mut settings = Settings::default();
    settings.set("a.b.c", "1");
    settings.set("a.d", "@DIR@/x");
    assert_eq!(settings.to_yaml("/t"), "a:\n  b:\n    c: 1\n  d: /t/x\n");
    settings.set("a.b", "{ e: 2 }");
    assert_eq!(settings.to_yaml("/t"), "a:\n  b: { e: 2 }\n  d: /t/x\n");
    assert!(settings.has("a") && !settings.has("a.b.c"));
}

#[test]
fn measured_times_are_filtered() {
    assert_eq!(cli::without_times(r#"{"a": 1, "micros": 12.5}"#), r#"{"a": 1, "micros": [TIME]}"#);
}
