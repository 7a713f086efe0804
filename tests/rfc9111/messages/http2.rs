//! Clients of HTTP/2: RFC 9113 sections 8.1 and 8.2.2.

use crate::support::tls::Authority;
use crate::support::{Origin, PATIENCE, Proxy, Reply};
use tokio::process::Command;

async fn pair() -> (Origin, Proxy) {
    let (origin, authority) = (Origin::start().await, Authority::new());
    let identity = authority.identity("test.example");
    let builder = Proxy::builder(&origin).tls(&identity.chain, &identity.key).file("ca.pem", &authority.pem());
    let proxy = builder.start().await;
    (origin, proxy)
}

/// What curl received: the heads in lower case, and the body after the last of them.
async fn get(proxy: &Proxy, target: &str) -> (Vec<String>, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--http2"]).arg("--cacert").arg(proxy.path("ca.pem"));
    command.arg("--max-time").arg(PATIENCE.as_secs().to_string());
    command.arg("--connect-to").arg(format!("test.example:443:{}", proxy.tls()));
    let output = command.arg(format!("https://test.example{target}")).output().await.expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut heads = Vec::new();
    let mut rest = text.as_str();
    while rest.starts_with("HTTP/") {
        let (head, after) = rest.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        heads.push(head.to_ascii_lowercase());
        rest = after;
    }
    (heads, rest.to_owned())
}

// RFC 9113 section 8.2.2: "An endpoint MUST NOT generate an HTTP/2 message containing connection-specific header fields"
#[tokio::test]
async fn a_client_of_http_2_gets_no_field_of_a_connection() {
    let (origin, proxy) = pair().await;
    let reply =
        Reply::fresh("body").header("connection", "x-hop").header("x-hop", "1").header("keep-alive", "timeout=5");
    origin.on("/a", reply.header("upgrade", "h2c").header("proxy-connection", "close").chunked());
    for _ in 0..2 {
        let (heads, body) = get(&proxy, "/a").await;
        assert!(heads[0].starts_with("http/2 200") && body == "body", "{heads:?}");
        for name in ["connection:", "x-hop:", "keep-alive:", "upgrade:", "proxy-connection:", "transfer-encoding:"] {
            assert!(!heads[0].contains(name), "{name} in {heads:?}");
        }
    }
    assert_eq!(origin.count("/a"), 1);
    // RFC 9110 section 7.6.3
    assert_eq!(origin.last("/a").header("via").as_deref(), Some("2 tidegate"));
}

// The framework has no way to send interim responses by HTTP/2; what follows them must be whole.
#[tokio::test]
async fn a_client_of_http_2_gets_the_final_response_after_interim_ones() {
    let (origin, proxy) = pair().await;
    origin.on("/a", Reply::fresh("body").informational(103, "link: </a>"));
    for _ in 0..2 {
        let (heads, body) = get(&proxy, "/a").await;
        let last = heads.last().expect("a head");
        assert!(last.starts_with("http/2 200") && !last.contains("link:") && body == "body", "{heads:?}");
    }
}

// RFC 9113 section 8.2.2: there are no transfer codings, so that nobody could be told of one
#[tokio::test]
async fn a_client_of_http_2_does_not_get_a_body_in_a_coding_that_it_is_not_told_of() {
    let (origin, proxy) = pair().await;
    let coded = "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\ncoded\r\n0\r\n\r\n";
    origin.on("/a", Reply::garbage(coded));
    let (heads, body) = get(&proxy, "/a").await;
    assert!(heads[0].starts_with("http/2 502") && !body.contains("coded"), "{heads:?}");
}
