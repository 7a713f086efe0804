//! Clients that do not keep to HTTP: what they get, and that nobody else notices.

use crate::support::call::Connection;
use crate::support::{Gate, Origin, Proxy, Reply, Response, within};
use std::time::Instant;

/// An origin with `/a` fresh and everything else echoed, and a daemon that has `/a` stored.
pub(super) async fn warm() -> (Origin, Proxy) {
    let (origin, proxy) = started("{}").await;
    assert_eq!(proxy.get("/a").await.text(), "as usual");
    (origin, proxy)
}

async fn started(limits: &str) -> (Origin, Proxy) {
    let origin = Origin::start().await;
    origin.otherwise(|seen| {
        let body = format!("{} {} {}", seen.method, seen.target, String::from_utf8_lossy(&seen.body));
        Reply::ok(body).header("cache-control", "no-store")
    });
    origin.on("/a", Reply::fresh("as usual"));
    let proxy = Proxy::builder(&origin).set("server.limits", limits).start().await;
    (origin, proxy)
}

/// Whatever happened before: the daemon answers as usual, and nothing in it panicked.
pub(super) async fn assert_well(proxy: &Proxy) {
    let response = proxy.get("/a").await;
    assert_eq!((response.status, response.text().as_str()), (200, "as usual"));
    let log = proxy.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Sends bytes on a connection of their own, closes nothing, and returns every answer until the daemon closes.
async fn exchange(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> Vec<Response> {
    let mut connection = proxy.connect().await;
    connection.send(bytes).await;
    connection.answers().await
}

/// The statuses of what [`exchange`] returns.
async fn statuses(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> Vec<u16> {
    exchange(proxy, bytes).await.iter().map(|response| response.status).collect()
}

/// A request that must not be seen as one: its path says whose body it was.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test.example\r\n\r\n";

/// `/a` once more, and then the end.
const LAST: &str = "GET /a HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_body_on_a_hit_is_not_read_as_the_next_request() {
    let (origin, proxy) = warm().await;
    let length = format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for (name, body) in [("length", &length), ("chunked", &chunked)] {
        for target in ["/a", "/other"] {
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: test.example\r\n{body}{LAST}");
            let answers = exchange(&proxy, bytes).await;
            assert!(!answers.is_empty() && answers.len() <= 2, "{name} {target}: {answers:?}");
            assert!(answers.iter().all(|answer| answer.status == 200), "{name} {target}: {answers:?}");
            if let Some(last) = answers.get(1) {
                assert_eq!(last.text(), "as usual", "{name} {target}");
            }
        }
    }
    assert_eq!(origin.count("/smuggled"), 0);
    assert_well(&proxy).await;
}

#[tokio::test]
async fn a_body_of_a_refused_request_is_not_read_as_the_next_request() {
    let origin = Origin::start().await;
    origin.otherwise(|_| Reply::ok("as usual"));
    let bucket = "{ match: { hosts: [test.example] }, origin: main, methods: [GET] }";
    let proxy = Proxy::builder(&origin).bucket("known", bucket).start().await;
    let body = format!("Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len());
    for head in ["POST /a HTTP/1.1\r\nHost: test.example\r\n", "POST /a HTTP/1.1\r\nHost: unknown.example\r\n"] {
        let answers = exchange(&proxy, format!("{head}{body}{LAST}")).await;
        assert!([404, 405].contains(&answers[0].status), "{answers:?}");
        assert!(answers.len() <= 2, "{answers:?}");
    }
    assert_eq!(origin.count("/smuggled"), 0);
    assert_well(&proxy).await;
}

#[tokio::test]
async fn two_framings_of_one_body_are_refused_or_end_the_connection() {
    let (origin, proxy) = warm().await;
    let n = SMUGGLED.len();
    for fields in [
        format!("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 0\r\nContent-Length: {n}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: {n}\r\nContent-Length: 0\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 0, {n}\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: -1\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: +0\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 0x0\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 99999999999999999999999\r\n\r\n{SMUGGLED}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("Content-Length: 0\r\n Transfer-Encoding: chunked\r\n\r\n{SMUGGLED}"),
    ] {
        for method in ["GET", "POST"] {
            for target in ["/a", "/other"] {
                let bytes = format!("{method} {target} HTTP/1.1\r\nHost: test.example\r\n{fields}{LAST}");
                let answers = exchange(&proxy, bytes).await;
                let first = answers.first().map_or(400, |answer| answer.status);
                assert!([200, 400, 411, 413, 501, 502].contains(&first), "{method} {target} {fields:?}: {answers:?}");
                assert_eq!(origin.count("/smuggled"), 0, "{method} {target} {fields:?}: {answers:?}");
            }
        }
    }
    assert_well(&proxy).await;
}

#[tokio::test]
async fn a_malformed_chunk_reaches_nobody_as_a_whole_body() {
    let (origin, proxy) = warm().await;
    for body in
        ["zz\r\nbody\r\n0\r\n\r\n", "-1\r\nx\r\n0\r\n\r\n", "4\r\nbodyX\r\n0\r\n\r\n", "ffffffffffffffffff\r\nx"]
    {
        let head = "POST /chunks HTTP/1.1\r\nHost: test.example\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answers = exchange(&proxy, format!("{head}{body}")).await;
        assert!(answers.iter().all(|answer| answer.status >= 400), "{body:?}: {answers:?}");
    }
    assert_eq!(origin.count("/chunks"), 0);
    assert_well(&proxy).await;
}

#[tokio::test]
async fn bytes_that_no_field_may_hold_are_refused() {
    let (origin, proxy) = warm().await;
    for field in ["X-Bad: a\0b", "X-Bad: a\rb", "X-Bad: a\x01b", "X Bad: a", "X-B\0ad: a", ": nameless", "no colon"] {
        let bytes = format!("GET /bad HTTP/1.1\r\nHost: test.example\r\n{field}\r\n\r\n");
        let answers = within(field, exchange(&proxy, bytes)).await;
        assert!(answers.iter().all(|answer| answer.status == 400), "{field:?}: {answers:?}");
        assert_eq!(origin.count("/bad"), 0, "{field:?}");
    }
    assert_well(&proxy).await;
}

#[tokio::test]
async fn what_is_not_http_at_all_is_refused() {
    let (_origin, proxy) = warm().await;
    for bytes in [
        "\r\n\r\n\r\n",
        "hello\r\n\r\n",
        "GET\r\n\r\n",
        "GET /a\r\n\r\n",
        "GET /a HTTP/9.9\r\nHost: test.example\r\n\r\n",
        "GET  /a  HTTP/1.1\r\nHost: test.example\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        "G\0T /a HTTP/1.1\r\nHost: test.example\r\n\r\n",
    ] {
        let mut connection = proxy.connect().await;
        connection.send(bytes).await;
        // Some of these could still become a request; a client that ends here does not wait for it.
        connection.finish().await;
        let answers = connection.answers().await;
        assert!(answers.iter().all(|answer| answer.status >= 400), "{bytes:?}: {answers:?}");
    }
    assert_well(&proxy).await;
}

#[tokio::test]
async fn ten_thousand_fields_are_too_many() {
    let (origin, proxy) = warm().await;
    let fields: String = (0..10_000).map(|n| format!("x{n}: 1\r\n")).collect();
    let bytes = format!("GET /many HTTP/1.1\r\nHost: test.example\r\n{fields}\r\n");
    let answers = statuses(&proxy, bytes).await;
    assert!(answers.iter().all(|status| [400, 431].contains(status)), "{answers:?}");
    assert_eq!(origin.count("/many"), 0);
    assert_well(&proxy).await;
}

#[tokio::test]
async fn a_host_that_is_missing_doubled_or_absurd_is_a_400() {
    let (origin, proxy) = warm().await;
    for host in [
        "",
        "Host: test.example\r\nHost: test.example\r\n",
        "Host: test.example\r\nHost: other.example\r\n",
        "Host: a b\r\n",
        "Host: test.example/path\r\n",
        "Host: user@test.example\r\n",
        "Host: test.example:port\r\n",
        "Host: \r\n",
    ] {
        let answers = exchange(&proxy, format!("GET /host HTTP/1.1\r\n{host}\r\n")).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [400], "{host:?}");
        assert_eq!(origin.count("/host"), 0, "{host:?}");
    }
    assert_well(&proxy).await;
}

#[tokio::test]
async fn an_absolute_target_is_the_path_that_it_holds() {
    let (origin, proxy) = warm().await;
    let absolute = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\n\r\n");
    let hit = exchange(&proxy, absolute("http://test.example/a")).await;
    assert_eq!((hit[0].text().as_str(), hit[0].is_hit()), ("as usual", true));
    assert_eq!(statuses(&proxy, absolute("HTTP://test.example/b?q=1")).await, [200]);
    assert_eq!(origin.last("/b").target, "/b?q=1", "a server is asked for the path");
    assert_eq!(statuses(&proxy, absolute("http://test.example?q=1")).await, [200]);
    assert_eq!(origin.last("/").target, "/?q=1");
    assert_well(&proxy).await;
}

#[tokio::test]
async fn an_absolute_target_for_another_host_than_the_field_is_refused() {
    let (_origin, proxy) = warm().await;
    let bytes = "GET http://other.example/a HTTP/1.1\r\nHost: test.example\r\n\r\n";
    assert_eq!(statuses(&proxy, bytes).await, [400]);
    assert_well(&proxy).await;
}

#[tokio::test]
async fn a_target_that_is_no_path_never_stands_for_the_root() {
    let (origin, proxy) = warm().await;
    origin.otherwise(|seen| Reply::fresh(seen.target.clone()));
    for target in
        ["evil", "?evil", " /evil", "test.example", "test.example:443", "*", "ftp://test.example/evil", "http:evil"]
    {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\n\r\n");
        let answers = statuses(&proxy, bytes).await;
        assert!(answers.iter().all(|status| [400, 404].contains(status)), "{target:?}: {answers:?}");
    }
    let root = proxy.get("/").await;
    assert_eq!((root.text().as_str(), root.is_hit()), ("/", false));
    assert_eq!(origin.count("/"), 1);
    assert_well(&proxy).await;
}

#[tokio::test]
async fn what_is_too_large_has_its_status_and_the_connection_ends() {
    let (origin, proxy) = started("{ header_bytes: 4KiB, uri_bytes: 1KiB, body_bytes: 2KiB }").await;
    let head = "HTTP/1.1\r\nHost: test.example\r\n";
    let long = "x".repeat(5000);
    for (bytes, status) in [
        (format!("GET /{long} {head}\r\n{LAST}"), 414),
        (format!("GET /b {head}X-Long: {long}\r\n\r\n{LAST}"), 431),
        (format!("POST /b {head}Content-Length: 5000\r\n\r\n{long}{LAST}"), 413),
        (format!("POST /b {head}Transfer-Encoding: chunked\r\n\r\n1388\r\n{long}\r\n0\r\n\r\n{LAST}"), 413),
    ] {
        let answers = exchange(&proxy, bytes).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status]);
        assert_eq!(answers[0].json()["status"], status);
    }
    assert_eq!(origin.count("/b"), 0);
    assert_well(&proxy).await;
}

#[tokio::test]
async fn a_header_that_takes_too_long_loses_its_connection() {
    let (_origin, proxy) = started("{ header_timeout: 1s }").await;
    let began = Instant::now();
    let mut silent = proxy.connect().await;
    silent.send("GET /a HTTP/1.1\r\nHost: te").await;
    assert!(silent.answers().await.iter().all(|answer| answer.status == 408));
    assert!(began.elapsed().as_millis() >= 900, "{:?}", began.elapsed());
    assert_well(&proxy).await;
}

#[tokio::test]
async fn a_header_that_trickles_in_loses_its_connection_too() {
    let (_origin, proxy) = started("{ header_timeout: 1s }").await;
    for requests_before in [0, 1] {
        let mut trickle = proxy.connect().await;
        for _ in 0..requests_before {
            assert_eq!(trickle.call(proxy.get("/a")).await.status, 200);
        }
        within("a trickled header to be cut off", async {
            trickle.send("GET /a HTTP/1.1\r\nHost: test.example\r\n").await;
            while !trickle.is_closed_after("X-More: x\r\n").await {}
        })
        .await;
    }
    assert_well(&proxy).await;
}

#[tokio::test]
async fn a_changed_header_timeout_takes_effect_without_a_restart() {
    let (_origin, proxy) = started("{ header_timeout: 61s }").await;
    proxy.edit_config("header_timeout: 61s", "header_timeout: 1s");
    proxy.wait_for_log("the configuration is applied").await;
    let mut silent = proxy.connect().await;
    silent.send("GET /a HTTP/1.1\r\nHost: te").await;
    assert!(silent.answers().await.is_empty());
    assert_well(&proxy).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let (_origin, proxy) = started("{ header_timeout: 1s, idle_timeout: 1s }").await;
    let mut connection = proxy.connect().await;
    assert_eq!(connection.call(proxy.get("/a")).await.status, 200);
    assert!(connection.answers().await.is_empty());
    assert_well(&proxy).await;
}

#[tokio::test]
async fn options_of_the_server_as_a_whole_are_no_buckets() {
    let (origin, proxy) = warm().await;
    let bytes = "OPTIONS * HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\n\r\n";
    let answers = exchange(&proxy, bytes).await;
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].status, origin.count("*")), (404, 0), "no bucket has a path of that name");
    assert_well(&proxy).await;
}

#[tokio::test]
async fn connect_is_refused() {
    let (origin, proxy) = warm().await;
    for bytes in [
        "CONNECT test.example:443 HTTP/1.1\r\nHost: test.example:443\r\n\r\n",
        "CONNECT test.example:443 HTTP/1.1\r\nHost: test.example\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut connection = proxy.connect().await;
        connection.send(bytes).await;
        let answer = connection.answer().await.expect("an answer");
        assert!([400, 405, 501].contains(&answer.status), "{answer:?}");
    }
    for path in ["test.example:443", "/", "", "/smuggled"] {
        assert_eq!(origin.count(path), 0, "{path}");
    }
    assert_well(&proxy).await;
}

#[tokio::test]
async fn a_client_of_http_1_0_is_answered_and_its_connection_ends() {
    let (origin, proxy) = warm().await;
    origin.on("/chunked", Reply::fresh("in chunks").chunked());
    for (target, body) in [("/a", "as usual"), ("/chunked", "in chunks"), ("/chunked", "in chunks"), ("/b", "GET /b ")]
    {
        let answers = exchange(&proxy, format!("GET {target} HTTP/1.0\r\nHost: test.example\r\n\r\n")).await;
        assert_eq!(answers.len(), 1, "{target}");
        assert_eq!((answers[0].status, answers[0].text().as_str()), (200, body), "{target}");
        assert_eq!(answers[0].header("transfer-encoding"), None, "{target}");
    }
    assert_eq!(origin.count("/chunked"), 1);
    assert_well(&proxy).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_or_the_connection_ends() {
    let (_origin, proxy) = warm().await;
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test.example\r\n\r\n");
    let answers = exchange(&proxy, format!("{}{}{LAST}", one("/one"), one("/two"))).await;
    let expected = ["GET /one ", "GET /two ", "as usual"];
    assert!(!answers.is_empty() && answers.len() <= 3, "{answers:?}");
    for (answer, body) in answers.iter().zip(expected) {
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
    }
    assert_well(&proxy).await;
}

#[tokio::test]
async fn a_thousand_idle_connections_keep_nobody_waiting() {
    let (_origin, proxy) = warm().await;
    let mut idle: Vec<Connection> = Vec::new();
    for n in 0..1000 {
        let mut connection = proxy.connect().await;
        if n % 2 == 0 {
            connection.send("GET /a HTTP/1.1\r\nHo").await;
        }
        idle.push(connection);
    }
    assert_well(&proxy).await;
    let mut first = idle.swap_remove(0);
    first.send("st: test.example\r\n\r\n").await;
    assert_eq!(first.answer().await.map(|answer| answer.text()).as_deref(), Some("as usual"));
}

#[tokio::test]
async fn a_thousand_ranges_of_a_stored_object_are_not_a_thousand_copies() {
    let (origin, proxy) = warm().await;
    origin.on("/large", Reply::fresh(vec![b'x'; 1 << 20]));
    assert_eq!(proxy.get("/large").await.status, 200);
    let ranges = vec!["0-"; 1000].join(",");
    let response = proxy.get("/large").header("range", &format!("bytes={ranges}")).await;
    assert!([200, 206, 416].contains(&response.status), "{}", response.status);
    assert!(response.body.len() <= 3 << 20, "{} bytes", response.body.len());
    assert_well(&proxy).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_costs_nothing_but_the_request() {
    let (origin, proxy) = warm().await;
    let gate = Gate::closed();
    origin.on("/slow", Reply::fresh("late").after(&gate));
    let mut leaving = proxy.connect().await;
    leaving.send("GET /slow HTTP/1.1\r\nHost: test.example\r\n\r\n").await;
    origin.wait_for_requests("/slow", 1).await;
    drop(leaving);
    assert_well(&proxy).await;
    gate.open();
    assert_eq!(proxy.get("/slow").await.text(), "late");
    assert_well(&proxy).await;
}
