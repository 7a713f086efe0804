//! TLS on both sides, and origins of several servers.

use crate::support::tls::{Authority, TlsFront};
use crate::support::{Gate, Origin, PATIENCE, Port, Proxy, Reply, eventually};
use std::net::SocketAddr;
use tokio::process::Command;

/// An origin behind TLS whose certificate is for `name`, and the authority that vouches for it.
async fn tls_origin(name: &str) -> (Origin, TlsFront, Authority) {
    let (origin, authority) = (Origin::start().await, Authority::new());
    origin.otherwise(|_| Reply::fresh("by TLS"));
    let front = TlsFront::start(&origin, authority.identity(name)).await;
    (origin, front, authority)
}

/// What keys of `origins.main.http` name this server.
fn servers(addresses: &[String]) -> String {
    format!("[{}]", addresses.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", "))
}

fn https(addr: SocketAddr) -> String {
    servers(&[format!("https://{addr}")])
}

#[tokio::test]
async fn an_https_origin_with_a_private_authority_is_asked() {
    let (origin, front, authority) = tls_origin("127.0.0.1").await;
    let keys = [("origins.main.http.servers", https(front.addr())), ("origins.main.http.ca", "ca.pem".to_owned())];
    let keys: Vec<_> = keys.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let proxy = Proxy::builder_with(&keys).file("ca.pem", &authority.pem()).start().await;
    let response = proxy.get("/a").await;
    assert_eq!((response.status, response.text().as_str()), (200, "by TLS"));
    assert!(proxy.get("/a").await.is_hit());
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test]
async fn an_authority_that_did_not_sign_is_a_502_that_the_log_explains() {
    let (origin, front, _authority) = tls_origin("127.0.0.1").await;
    let keys = [("origins.main.http.servers", https(front.addr())), ("origins.main.http.ca", "ca.pem".to_owned())];
    let keys: Vec<_> = keys.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let proxy = Proxy::builder_with(&keys).file("ca.pem", &Authority::new().pem()).start().await;
    let response = proxy.get("/a").await;
    assert_eq!((response.status, origin.count("/a")), (502, 0));
    let line = proxy.wait_for_log(&response.header("x-request-id").unwrap()).await;
    assert!(line.to_ascii_lowercase().contains("certificate"), "{line}");
}

#[tokio::test]
async fn an_authority_that_nobody_named_is_not_trusted() {
    let (origin, front, _authority) = tls_origin("127.0.0.1").await;
    let proxy = Proxy::builder_with(&[("origins.main.http.servers", &https(front.addr()))]).start().await;
    assert_eq!((proxy.get("/a").await.status, origin.count("/a")), (502, 0));
}

#[tokio::test]
async fn the_systems_authorities_count_until_the_origin_names_its_own() {
    let (_origin, front, authority) = tls_origin("127.0.0.1").await;
    let (servers, own) = (https(front.addr()), Authority::new());
    for (ca, status) in [(None, 200), (Some("own.pem"), 502)] {
        let mut keys = vec![("origins.main.http.servers", servers.as_str())];
        keys.extend(ca.map(|ca| ("origins.main.http.ca", ca)));
        let builder = Proxy::builder_with(&keys).file("system.pem", &authority.pem()).file("own.pem", &own.pem());
        let proxy = builder.env("SSL_CERT_FILE", "system.pem").start().await;
        assert_eq!(proxy.get("/a").await.status, status, "ca: {ca:?}");
    }
}

#[tokio::test]
async fn health_checks_trust_whom_requests_trust() {
    let (origin, front, authority) = tls_origin("127.0.0.1").await;
    let servers = https(front.addr());
    for (ca, verdict) in [("ca.pem", "passes its health check"), ("own.pem", "fails its health check")] {
        origin.on("/health", Reply::status(503));
        let keys = [
            ("origins.main.http.servers", servers.as_str()),
            ("origins.main.http.ca", ca),
            ("origins.main.http.health", "{ path: /health, interval: 50ms }"),
        ];
        let builder = Proxy::builder_with(&keys).file("ca.pem", &authority.pem());
        let builder = builder.file("own.pem", &Authority::new().pem()).env("SSL_CERT_FILE", "ca.pem");
        let proxy = builder.start().await;
        let first = proxy.wait_for_log("fails its health check").await;
        assert_eq!(first.to_ascii_lowercase().contains("certificate"), ca == "own.pem", "{first}");
        origin.on("/health", Reply::status(204));
        proxy.wait_for_log(verdict).await;
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_accepted() {
    let (origin, front, authority) = tls_origin("other.test").await;
    let servers = https(front.addr());
    let keys = [("origins.main.http.servers", servers.as_str()), ("origins.main.http.ca", "ca.pem")];
    let proxy = Proxy::builder_with(&keys).file("ca.pem", &authority.pem()).start().await;
    assert_eq!((proxy.get("/a").await.status, origin.count("/a")), (502, 0));
}

#[tokio::test]
async fn verify_false_asks_whoever_answers() {
    let (_origin, front, _authority) = tls_origin("other.test").await;
    let servers = https(front.addr());
    let keys = [("origins.main.http.servers", servers.as_str()), ("origins.main.http.verify", "false")];
    let proxy = Proxy::builder_with(&keys).start().await;
    assert_eq!(proxy.get("/a").await.text(), "by TLS");
}

#[tokio::test]
async fn a_server_is_asked_for_by_its_name() {
    let (_origin, front, authority) = tls_origin("localhost").await;
    let servers = servers(&[format!("https://localhost:{}", front.addr().port())]);
    let keys = [("origins.main.http.servers", servers.as_str()), ("origins.main.http.ca", "ca.pem")];
    let proxy = Proxy::builder_with(&keys).file("ca.pem", &authority.pem()).start().await;
    assert_eq!(proxy.get("/a").await.text(), "by TLS");
    assert!(front.names().contains(&"localhost".to_owned()), "{:?}", front.names());
}

#[tokio::test]
async fn a_configured_host_is_the_name_of_a_server_that_has_only_an_address() {
    let (origin, front, authority) = tls_origin("www.origin.test").await;
    let servers = https(front.addr());
    let keys = [
        ("origins.main.http.servers", servers.as_str()),
        ("origins.main.http.ca", "ca.pem"),
        ("origins.main.http.host", "www.origin.test"),
    ];
    let proxy = Proxy::builder_with(&keys).file("ca.pem", &authority.pem()).start().await;
    assert_eq!(proxy.get("/a").await.text(), "by TLS");
    assert_eq!(front.names(), ["www.origin.test"]);
    assert_eq!(origin.last("/a").header("host").as_deref(), Some("www.origin.test"));
}

/// A daemon with a TLS listener, in front of an origin that says by what scheme it was asked.
async fn tls_listener(policy: &str) -> (Origin, Proxy) {
    let (origin, authority) = (Origin::start().await, Authority::new());
    origin.otherwise(|seen| Reply::fresh(seen.header("x-forwarded-proto").unwrap_or_default()));
    let identity = authority.identity("test.example");
    let builder = Proxy::builder(&origin).tls(&identity.chain, &identity.key).file("ca.pem", &authority.pem());
    let proxy = builder.policy("main.lua", policy).start().await;
    (origin, proxy)
}

/// What curl received: the head, the body, and the version of HTTP it came by.
async fn curl(proxy: &Proxy, version: &str, target: &str) -> (String, String, String) {
    let (tls, ca) = (proxy.tls(), proxy.path("ca.pem"));
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", version, "--write-out", "\n%{http_version}"]);
    command.arg("--max-time").arg(PATIENCE.as_secs().to_string()).arg("--cacert").arg(ca);
    command.arg("--connect-to").arg(format!("test.example:443:{tls}"));
    let output = command.arg(format!("https://test.example{target}")).output().await.expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (text, version) = text.rsplit_once('\n').expect("a version");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head.to_ascii_lowercase(), body.to_owned(), version.to_owned())
}

#[tokio::test]
async fn the_tls_listener_speaks_both_versions_of_http_and_serves_hits() {
    let (origin, proxy) = tls_listener("return {}").await;
    for (version, told) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for hit in [false, true] {
            let (head, body, by) = curl(&proxy, version, &format!("/{told}")).await;
            assert_eq!((body.as_str(), by.as_str()), ("https", told));
            assert!(head.contains("200"), "{head}");
            assert_eq!(head.contains("cache-status: tidegate; hit"), hit, "{head}");
        }
        assert_eq!(origin.count(&format!("/{told}")), 1);
    }
    let (head, _, _) = curl(&proxy, "--http2", "/1.1").await;
    assert!(head.contains("cache-status: tidegate; hit"), "the version of HTTP is no part of the key: {head}");
}

/// RFC 9113 section 8.2.3.
#[tokio::test]
async fn the_lines_of_a_cookie_reach_an_origin_of_http_1_as_one() {
    let (origin, proxy) = tls_listener("return {}").await;
    let mut client = Command::new("curl");
    client.args(["--silent", "--http2", "--insecure", "--header", "cookie: a=1", "--header", "cookie: b=2"]);
    client.arg("--connect-to").arg(format!("test.example:443:{}", proxy.tls())).arg("https://test.example/a");
    assert!(client.output().await.expect("curl").status.success());
    assert_eq!(origin.last("/a").headers.all("cookie"), ["a=1; b=2"]);
}

#[tokio::test]
async fn the_scheme_is_part_of_the_key_and_known_to_the_policy() {
    let policy = r#"return { deliver = function(req) return { headers = { ["x-scheme"] = req.scheme } } end }"#;
    let (origin, proxy) = tls_listener(policy).await;
    let plain = proxy.get("/a").await;
    assert_eq!((plain.text().as_str(), plain.header("x-scheme").as_deref()), ("http", Some("http")));
    let (head, body, _) = curl(&proxy, "--http2", "/a").await;
    assert!(head.contains("x-scheme: https") && head.contains("fwd=uri-miss"), "{head}");
    assert_eq!((body.as_str(), origin.count("/a")), ("https", 2));
}

#[tokio::test]
async fn a_large_body_and_a_refusal_travel_by_http2() {
    let (origin, proxy) = tls_listener("return {}").await;
    let body = "0123456789".repeat(40_000);
    origin.on("/large", Reply::fresh(&body));
    for _ in 0..2 {
        assert!(curl(&proxy, "--http2", "/large").await.1 == body);
    }
    origin.on("/gone", Reply::hang_up());
    let (head, problem, _) = curl(&proxy, "--http2", "/gone").await;
    assert!(head.starts_with("http/2 502") && problem.contains("origin-unreachable"), "{head}{problem}");
}

/// Servers that say which one they are, and their addresses.
async fn farm<const N: usize>() -> ([Origin; N], Vec<String>) {
    let mut origins = Vec::new();
    for n in 0..N {
        let origin = Origin::start().await;
        origin.otherwise(move |_| Reply::ok(n.to_string()).header("cache-control", "no-store"));
        origins.push(origin);
    }
    let addresses = origins.iter().map(|origin| origin.addr().to_string()).collect();
    (origins.try_into().unwrap_or_else(|_| panic!("{N} origins")), addresses)
}

#[tokio::test]
async fn round_robin_reaches_every_server_in_turn() {
    let (_origins, addresses) = farm::<2>().await;
    let proxy = Proxy::builder_with(&[("origins.main.http.servers", &servers(&addresses))]).start().await;
    let mut answers = Vec::new();
    for n in 0..4 {
        answers.push(proxy.get(&format!("/{n}")).await.text());
    }
    answers.sort();
    assert_eq!(answers, ["0", "0", "1", "1"]);
}

#[tokio::test]
async fn a_dead_server_is_skipped_and_its_requests_succeed_elsewhere() {
    let (_origins, mut addresses) = farm::<1>().await;
    let nobody = Port::reserve();
    addresses.insert(0, nobody.addr().to_string());
    let proxy = Proxy::builder_with(&[("origins.main.http.servers", &servers(&addresses))]).start().await;
    for n in 0..6 {
        let response = proxy.get(&format!("/{n}")).await;
        assert_eq!((response.status, response.text().as_str()), (200, "0"));
    }
    // The second request already knows which server is dead.
    proxy.wait_for_metric("tidegate_origin_requests_total", "status=\"error\"", 1.0).await;
}

#[tokio::test]
async fn without_retries_a_dead_server_costs_its_request() {
    let (_origins, mut addresses) = farm::<1>().await;
    let nobody = Port::reserve();
    addresses.insert(0, nobody.addr().to_string());
    let keys = [("origins.main.http.servers", servers(&addresses)), ("origins.main.http.retries", "0".to_owned())];
    let keys: Vec<_> = keys.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let proxy = Proxy::builder_with(&keys).start().await;
    let mut statuses = vec![proxy.get("/1").await.status, proxy.get("/2").await.status];
    statuses.sort();
    assert_eq!(statuses, [200, 502]);
}

#[tokio::test]
async fn a_server_that_hangs_up_before_its_head_does_not_fail_a_request_that_may_be_repeated() {
    let (origins, addresses) = farm::<2>().await;
    origins[0].otherwise(|_| Reply::hang_up());
    let proxy = Proxy::builder_with(&[("origins.main.http.servers", &servers(&addresses))]).start().await;
    for n in 0..4 {
        let response = proxy.get(&format!("/{n}")).await;
        assert_eq!((response.status, response.text().as_str()), (200, "1"));
    }
}

#[tokio::test]
async fn a_failing_health_check_takes_a_server_out_until_it_passes_again() {
    let (origins, addresses) = farm::<2>().await;
    origins[1].on("/health", Reply::status(503));
    let servers = servers(&addresses);
    let keys = [
        ("origins.main.http.servers", servers.as_str()),
        ("origins.main.http.health", "{ path: /health, interval: 50ms }"),
    ];
    let proxy = Proxy::builder_with(&keys).start().await;
    proxy.wait_for_log("fails its health check").await;
    for n in 0..4 {
        assert_eq!(proxy.get(&format!("/{n}")).await.text(), "0");
    }
    origins[1].on("/health", Reply::status(204));
    proxy.wait_for_log("passes its health check again").await;
    eventually("the server's return", async || (proxy.get("/a").await.text() == "1").then_some(())).await;
}

#[tokio::test]
async fn a_silent_server_is_a_504_and_nobody_at_all_a_502() {
    let (origins, mut addresses) = farm::<1>().await;
    let never = Gate::closed();
    origins[0].on("/silent", Reply::ok("late").after(&never));
    let servers_of_one = servers(&addresses);
    let keys = [("origins.main.http.servers", servers_of_one.as_str()), ("origins.main.http.read_timeout", "200ms")];
    let proxy = Proxy::builder_with(&keys).start().await;
    let silent = proxy.get("/silent").await;
    assert_eq!((silent.status, &silent.json()["reason"]), (504, &"origin-timeout".into()));

    let nobody = [Port::reserve(), Port::reserve()];
    addresses = nobody.iter().map(|port| port.addr().to_string()).collect();
    let proxy = Proxy::builder_with(&[("origins.main.http.servers", &servers(&addresses))]).start().await;
    for _ in 0..2 {
        let refused = proxy.get("/a").await;
        assert_eq!((refused.status, &refused.json()["reason"]), (502, &"origin-unreachable".into()));
        proxy.wait_for_log(&refused.header("x-request-id").unwrap()).await;
    }
}
