//! Prepared requests, sent over a real socket to a real S3 server that checks their signatures.

#[path = "support/s3.rs"]
mod s3;

use http::Method;
use s3::S3Server;
use std::time::{Duration, SystemTime};
use tidegate::config::{OriginServer, S3Credentials, S3Origin, S3Style};
use tidegate::origin::{Prepared, S3Signer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn origin(server: &S3Server) -> S3Origin {
    S3Origin {
        endpoint: OriginServer { host: "127.0.0.1".into(), port: server.addr().port(), tls: false },
        region: "us-east-1".into(),
        bucket: "media".into(),
        prefix: String::new(),
        style: S3Style::Path,
        credentials: keys(s3::SECRET_KEY),
        subresources: false,
        ca: None,
        verify: true,
    }
}

fn keys(secret: &str) -> S3Credentials {
    S3Credentials::Static {
        access_key_id: s3::ACCESS_KEY.into(),
        secret_access_key: secret.into(),
        session_token: None,
    }
}

#[expect(clippy::disallowed_methods, reason = "the server compares the signature's time with its own clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends what was prepared and nothing else, byte for byte.
async fn send(server: &S3Server, method: &Method, prepared: &Prepared, body: &str) -> Answer {
    let host = prepared.host.to_str().unwrap();
    let mut request = format!("{method} {} HTTP/1.1\r\nHost: {host}\r\n", prepared.path_and_query);
    for (name, value) in &prepared.headers {
        request.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    if !body.is_empty() {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("Connection: close\r\n\r\n");
    request.push_str(body);

    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn get(server: &S3Server, origin: &S3Origin, path: &str, query: &str) -> Answer {
    let prepared = S3Signer::new(origin).unwrap().prepare(&Method::GET, path, query, now()).unwrap();
    send(server, &Method::GET, &prepared, "").await
}

/// A key and one of the ways in which clients spell it.
const KEYS: &[(&str, &str)] = &[
    ("plain.txt", "/plain.txt"),
    ("a b.txt", "/a%20b.txt"),
    ("a+b.txt", "/a+b.txt"),
    ("c+d.txt", "/c%2Bd.txt"),
    ("folder/in folder/x", "/folder%2Fin%20folder/x"),
    ("~user/~tilde", "/%7Euser/~tilde"),
    ("photo (1)!'*.jpg", "/photo%20(1)!'*.jpg"),
    ("a,b;c:d@e&f=g$h", "/a,b;c:d@e&f=g$h"),
    ("caf\u{e9}/\u{6d77}/\u{1f319}.svg", "/caf%C3%A9/%e6%b5%b7/%F0%9F%8C%99.svg"),
    ("100%/%41", "/100%25/%2541"),
    ("what?.txt#x", "/what%3F.txt%23x"),
    ("[brackets]{braces}|^`\"<>\\", "/%5Bbrackets%5D%7Bbraces%7D%7C%5E%60%22%3C%3E%5C"),
    ("tab\tand\nline", "/tab%09and%0Aline"),
    (".hidden/..two/three...", "/.hidden/..two/three..."),
];

#[tokio::test]
async fn every_kind_of_key_is_found_under_its_signature() {
    let server = S3Server::start(&["media"]).await;
    for (key, path) in KEYS {
        server.put("media", key, format!("<{key}>"));
        let answer = get(&server, &origin(&server), path, "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, format!("<{key}>").as_str()), "{path}");
    }
}

#[tokio::test]
async fn every_kind_of_query_is_accepted() {
    let server = S3Server::start(&["media"]).await;
    server.put("media", "a.txt", "body");
    for query in [
        "v=1",
        "b=2&a=1&a=0",
        "a=2&a=1&a=3&A=0",
        "flag",
        "flag=",
        "=",
        "q=a+b%20c%2Bd",
        "path=/x/y~z",
        "response-content-type=text%2Fplain%3B%20charset%3Dutf-8",
        "response-content-disposition=attachment;%20filename=%22a%20(1).txt%22",
        "\u{fc}=\u{6d77}&%C3%BC=1",
        "X-Amz-Signature=00&X-Amz-Algorithm=AWS4-HMAC-SHA256&Signature=x&AWSAccessKeyId=y&Expires=1",
        "a-b=1&a.b=1&a_b=1&ab=1&a%20b=1",
    ] {
        let answer = get(&server, &origin(&server), "/a.txt", query).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "body"), "{query}");
    }
}

#[tokio::test]
async fn a_head_request_is_accepted() {
    let server = S3Server::start(&["media"]).await;
    server.put("media", "a b.txt", "body");
    let prepared = S3Signer::new(&origin(&server)).unwrap().prepare(&Method::HEAD, "/a%20b.txt", "", now()).unwrap();
    let answer = send(&server, &Method::HEAD, &prepared, "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-length: 4"), "{}", answer.head);
}

#[tokio::test]
async fn a_body_is_accepted_without_its_hash() {
    let server = S3Server::start(&["media"]).await;
    let prepared = S3Signer::new(&origin(&server)).unwrap().prepare(&Method::PUT, "/new+1.txt", "", now()).unwrap();
    let answer = send(&server, &Method::PUT, &prepared, "hello").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(std::fs::read_to_string(server.file("media", "new+1.txt")).unwrap(), "hello");
}

#[tokio::test]
async fn a_missing_object_is_404_and_not_a_matter_of_signatures() {
    let server = S3Server::start(&["media"]).await;
    assert_eq!(get(&server, &origin(&server), "/none", "").await.status, 404);
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let server = S3Server::start(&["media"]).await;
    server.put("media", "a.txt", "body");
    let origin = S3Origin { credentials: keys("wrong"), ..origin(&server) };
    let answer = get(&server, &origin, "/a.txt", "").await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("SignatureDoesNotMatch"), "{}", answer.body);
}

#[tokio::test]
async fn a_request_without_a_signature_is_refused_by_a_private_bucket() {
    let server = S3Server::start(&["media"]).await;
    server.put("media", "a.txt", "body");
    let origin = S3Origin { credentials: S3Credentials::Anonymous, ..origin(&server) };
    let answer = get(&server, &origin, "/a.txt", "").await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("AccessDenied"), "{}", answer.body);
}

#[tokio::test]
async fn a_target_changed_on_the_way_is_refused() {
    let server = S3Server::start(&["media"]).await;
    server.put("media", "a.txt", "body");
    server.put("media", "b.txt", "other");
    let signer = S3Signer::new(&origin(&server)).unwrap();
    let mut prepared = signer.prepare(&Method::GET, "/a.txt", "", now()).unwrap();
    prepared.path_and_query = "/media/b.txt".into();
    assert_eq!(send(&server, &Method::GET, &prepared, "").await.status, 403);
}

#[tokio::test]
async fn a_signature_of_the_wrong_time_is_refused() {
    let server = S3Server::start(&["media"]).await;
    server.put("media", "a.txt", "body");
    let signer = S3Signer::new(&origin(&server)).unwrap();
    let prepared = signer.prepare(&Method::GET, "/a.txt", "", now() - Duration::from_secs(3600)).unwrap();
    assert_eq!(send(&server, &Method::GET, &prepared, "").await.status, 403);
}

#[tokio::test]
async fn a_bucket_in_the_host_is_found_and_signed() {
    let server = S3Server::start_with_domain(&["media"], "s3.test").await;
    let endpoint = OriginServer { host: "s3.test".into(), port: server.addr().port(), tls: false };
    let origin = S3Origin { endpoint, style: S3Style::VirtualHost, ..origin(&server) };
    for (key, path) in KEYS {
        server.put("media", key, format!("<{key}>"));
        let answer = get(&server, &origin, path, "v=1").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, format!("<{key}>").as_str()), "{path}");
    }
}

#[tokio::test]
async fn a_prefix_leads_into_its_folder() {
    let server = S3Server::start(&["media"]).await;
    server.put("media", "site v2/index.html", "home");
    let origin = S3Origin { prefix: "site v2".into(), ..origin(&server) };
    assert_eq!(get(&server, &origin, "/index.html", "").await.body, "home");
}

#[tokio::test]
async fn a_listing_works_where_sub_resources_are_allowed() {
    let server = S3Server::start(&["media"]).await;
    server.put("media", "photos/moon 1.svg", "moon");
    let origin = S3Origin { subresources: true, ..origin(&server) };
    let answer = get(&server, &origin, "/", "list-type=2&prefix=photos/&max-keys=5").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("<Key>photos/moon 1.svg</Key>"), "{}", answer.body);
}
