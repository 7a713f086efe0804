//! Fields of the connection: RFC 9110 sections 7.6.1, 7.8 and 11.7, RFC 9111 section 3.1.

use super::pair;
use crate::support::{Proxy, Reply};

/// Fields that RFC 9110 sections 7.6.1 and 11.7 keep to one connection, with values that frame nothing.
const HOP: [(&str, &str); 6] = [
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("te", "trailers"),
    ("trailer", "x-sum"),
    ("proxy-authenticate", "Basic"),
    ("proxy-authorization", "Basic eA=="),
];

// RFC 9110 section 7.6.1: "Intermediaries MUST [...] remove the Connection field"
#[tokio::test]
async fn fields_of_the_connection_do_not_reach_the_origin() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("body"));
    let mut call = proxy.get("/a").header("connection", "keep-alive");
    for (name, value) in HOP {
        call = call.header(name, value);
    }
    call.header("x-end", "1").await;
    let seen = origin.last("/a");
    for (name, _) in HOP {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-end").as_deref(), Some("1"));
}

#[tokio::test]
async fn fields_of_the_connection_reach_neither_the_client_nor_the_store() {
    let (origin, proxy) = pair().await;
    let mut reply = Reply::fresh("body").header("upgrade", "h2c").header("proxy-authentication-info", "x");
    for (name, value) in HOP {
        reply = reply.header(name, value);
    }
    origin.on("/a", reply.header("x-end", "1"));
    for hit in [false, true] {
        let response = proxy.get("/a").await;
        assert_eq!(response.is_hit(), hit);
        for name in HOP.map(|(name, _)| name).into_iter().chain(["upgrade", "proxy-authentication-info"]) {
            assert_eq!(response.header(name), None, "{name}, hit: {hit}");
        }
        assert_eq!(response.header("x-end").as_deref(), Some("1"));
    }
}

// RFC 9110 section 7.6.1: "for each connection-option in this field, remove any header [...] with the same name"
#[tokio::test]
async fn fields_that_the_origins_connection_names_are_removed_in_any_spelling() {
    let (origin, proxy) = pair().await;
    let reply = Reply::fresh("body")
        .header("connection", "X-One ,x-two,, keep-alive")
        .header("Connection", "X-THREE,absent")
        .header("x-one", "1")
        .header("X-Two", "2")
        .header("x-two", "2 again")
        .header("x-three", "3")
        .header("x-four", "4");
    origin.on("/a", reply);
    for _ in 0..2 {
        let response = proxy.get("/a").await;
        for name in ["x-one", "x-two", "x-three"] {
            assert_eq!(response.header(name), None, "{name}: {response:?}");
        }
        assert_eq!(response.header("x-four").as_deref(), Some("4"));
    }
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn fields_that_the_clients_connection_names_are_removed_in_any_spelling() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("body"));
    let call = proxy.get("/a").header("connection", "X-One ,x-two,, close").header("Connection", "X-THREE,absent");
    let call = call.header("x-one", "1").header("X-Two", "2").header("x-two", "3").header("x-three", "3");
    call.header("x-four", "4").await;
    let seen = origin.last("/a");
    for name in ["x-one", "x-two", "x-three", "absent"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-four").as_deref(), Some("4"));
}

// RFC 9110 section 7.6.1: a sender MUST NOT nominate a field "intended for all recipients of the content", and names
// Cache-Control; taking it away would make the response storable that says it is not.
#[tokio::test]
async fn what_a_cache_relies_on_cannot_be_taken_away_by_connection() {
    let (origin, proxy) = pair().await;
    let nominated = "cache-control, vary, etag, age, date, expires, last-modified, set-cookie, content-type";
    let private = Reply::ok("mine").header("connection", nominated).header("cache-control", "private, max-age=60");
    origin.on("/private", private.header("set-cookie", "a=b"));
    let varies = Reply::fresh("varies").header("connection", nominated).header("vary", "x-who").header("age", "10");
    origin.on("/varies", varies);
    for _ in 0..2 {
        let response = proxy.get("/private").await;
        assert!(!response.is_hit() && !response.cache_status().stored, "{response:?}");
        assert_eq!(response.header("cache-control").as_deref(), Some("private, max-age=60"));
    }
    proxy.get("/varies").header("x-who", "one").await;
    let other = proxy.get("/varies").header("x-who", "two").await;
    assert_eq!(other.cache_status().fwd(), "vary-miss");
    let same = proxy.get("/varies").header("x-who", "one").await;
    assert!(same.is_hit() && same.header("age").unwrap().parse::<u32>().unwrap() >= 10, "{same:?}");
}

#[tokio::test]
async fn a_clients_connection_cannot_take_away_what_the_origin_decides_by() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("for one"));
    let nominated = "authorization, cookie, cache-control, host";
    let call = proxy.get("/a").host("one.example").header("connection", nominated).token("secret");
    let response = call.header("cookie", "a=b").header("cache-control", "no-cache").await;
    assert_eq!(response.status, 200);
    let seen = origin.last("/a");
    assert_eq!(seen.header("authorization").as_deref(), Some("Bearer secret"));
    assert_eq!((seen.header("cookie").as_deref(), seen.header("host").as_deref()), (Some("a=b"), Some("one.example")));
    assert!(!response.cache_status().stored, "authorized, and not shareable: {response:?}");
}

// A field that the origin does not get to see may not be part of a key either.
#[tokio::test]
async fn a_nominated_field_does_not_select_what_it_did_not_make() {
    let (origin, _) = pair().await;
    origin.otherwise(|seen| {
        let who = seen.header("x-tenant").unwrap_or_else(|| "nobody".to_owned());
        Reply::fresh(who).header("vary", "x-tenant")
    });
    let policy = "return { request = function(req) return { key = { req.path, req.headers['x-tenant'] or '' } } end }";
    for proxy in [Proxy::plain(&origin).await, Proxy::with_policy(&origin, policy).await] {
        let hostile = proxy.get("/a").header("x-tenant", "victim").header("connection", "x-tenant").await;
        assert_eq!(hostile.text(), "nobody");
        assert_eq!(proxy.get("/a").header("x-tenant", "victim").await.text(), "victim");
        assert_eq!(proxy.get("/a").await.text(), "nobody");
    }
}

#[tokio::test]
async fn a_clients_connection_cannot_hide_where_a_request_comes_from() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("body"));
    let names = "x-forwarded-for, x-forwarded-host, x-forwarded-proto, forwarded, via";
    assert_eq!(proxy.get("/a").header("connection", names).header("x-forwarded-for", "1.2.3.4").await.status, 200);
    let seen = origin.last("/a");
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("test.example"));
}

#[tokio::test]
async fn a_connection_field_that_is_no_list_of_names_does_no_harm() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::ok("body"));
    let many = (0..40).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
    for value in [many.as_str(), "\"x-a\"", ":authority", "x a, (b)", ",", ""] {
        let response = proxy.get("/a").header("connection", value).header("x-a", "1").await;
        assert!(matches!(response.status, 200 | 400), "{value:?}: {response:?}");
    }
    assert_eq!(proxy.get("/a").await.text(), "body");
}

// RFC 9110 section 7.6.1 applies to the fields of a 304 as well
#[tokio::test]
async fn fields_of_the_connection_are_not_merged_from_a_304() {
    let (origin, proxy) = pair().await;
    let first = Reply::ok("body").header("cache-control", "no-cache").etag("\"v\"").header("x-hop", "stored");
    let second = Reply::ok("body").header("cache-control", "no-cache").etag("\"v\"");
    let second = second.header("connection", "x-hop").header("x-hop", "new").header("keep-alive", "timeout=1");
    origin.on_each("/a", [first, second]);
    proxy.get("/a").await;
    let response = proxy.get("/a").await;
    assert_eq!(response.cache_status().fwd_status, Some(304));
    assert_eq!((response.header("x-hop").as_deref(), response.header("keep-alive")), (Some("stored"), None));
}
