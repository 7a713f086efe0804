use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that answers every request with the given status line, and says when it did.
async fn answering(status: &'static str) -> (SocketAddr, Arc<Notify>, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (answered, request) = (Arc::new(Notify::new()), Arc::new(Mutex::new(String::new())));
    let (notify, heard) = (answered.clone(), request.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 1024];
            let read = stream.read(&mut buffer).await.unwrap_or(0);
            *heard.lock() = String::from_utf8_lossy(&buffer[..read]).into_owned();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.ok();
            notify.notify_one();
        }
    });
    (addr, answered, request)
}

fn checked(addr: SocketAddr) -> Origin {
    let mut origin = origin(vec![server(&addr.ip().to_string(), addr.port())], Balance::RoundRobin);
    let OriginKind::Http(http) = &mut origin.kind else { panic!("not HTTP") };
    http.health = Some(Health { path: "/healthz".into(), interval: Duration::from_millis(20) });
    origin
}

async fn until_status(pool: &Pool, wanted: ServerStatus) {
    soon(async {
        while pool.state().iter().any(|state| state.status != wanted) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_answers_5xx_to_its_health_check_is_unhealthy_and_the_last_resort() {
    let (addr, answered, request) = answering("503 Service Unavailable").await;
    let pool = Pool::new(&checked(addr));
    let _checks = pool.start_health_checks().unwrap();
    soon(answered.notified()).await;
    until_status(&pool, ServerStatus::Unhealthy).await;
    assert!(request.lock().starts_with("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
    assert_eq!(pool.pick(0, &[]).await.unwrap().addr, addr);
}

#[tokio::test]
async fn a_server_that_comes_back_is_healthy_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let pool = Pool::new(&checked(addr));
    let _checks = pool.start_health_checks().unwrap();
    until_status(&pool, ServerStatus::Unhealthy).await;

    let listener = TcpListener::bind(addr).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok();
        }
    });
    until_status(&pool, ServerStatus::Up).await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut origin = checked(listener.local_addr().unwrap());
    origin.connect_timeout = Duration::from_millis(20);
    let pool = Pool::new(&origin);
    let _checks = pool.start_health_checks().unwrap();
    until_status(&pool, ServerStatus::Unhealthy).await;
}

/// A TLS server for `localhost` that answers 200, and the certificate that it has given itself.
async fn answering_in_tls() -> (SocketAddr, tempfile::NamedTempFile) {
    use pingora::tls::{PrivateKeyDer, ServerConfig, TlsAcceptor, install_default_crypto_provider};
    install_default_crypto_provider();
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), issued.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![issued.cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 1024]).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok();
                stream.shutdown().await.ok();
            }
        }
    });
    (addr, ca)
}

/// A pool of one `https://localhost` server whose name leads to `addr`.
fn checked_in_tls(addr: SocketAddr, ca: Option<&std::path::Path>, verify: bool) -> Pool {
    let world = World::default();
    world.set("localhost", &["127.0.0.1"]);
    let mut origin = checked(addr);
    origin.connect_timeout = Duration::from_secs(5);
    let OriginKind::Http(http) = &mut origin.kind else { panic!("not HTTP") };
    http.servers = vec![OriginServer { host: "localhost".into(), port: addr.port(), tls: true }];
    (http.ca, http.verify) = (ca.map(Into::into), verify);
    world.pool(&origin)
}

/// The verdict of the first check.
async fn first_verdict(pool: &Pool) -> ServerStatus {
    pool.pick(0, &[]).await.unwrap();
    let endpoints = pool.0.endpoints.load_full();
    let health = pool.0.health.clone().unwrap();
    health::judge(&pool.0, &health, health::connector(&pool.0).as_ref(), &endpoints[0]).await;
    status(pool, endpoints[0].addr())
}

#[tokio::test]
async fn a_tls_server_is_checked_against_the_origins_own_authority() {
    let (addr, ca) = answering_in_tls().await;
    assert_eq!(first_verdict(&checked_in_tls(addr, Some(ca.path()), true)).await, ServerStatus::Up);
}

#[tokio::test]
async fn a_tls_server_that_nobody_vouches_for_is_unhealthy() {
    let (addr, _ca) = answering_in_tls().await;
    assert_eq!(first_verdict(&checked_in_tls(addr, None, true)).await, ServerStatus::Unhealthy);
}

#[tokio::test]
async fn a_tls_server_needs_no_authority_where_certificates_are_not_verified() {
    let (addr, _ca) = answering_in_tls().await;
    assert_eq!(first_verdict(&checked_in_tls(addr, None, false)).await, ServerStatus::Up);
}

#[tokio::test]
async fn checks_end_with_their_guard() {
    let (addr, answered, _request) = answering("200 OK").await;
    let pool = Pool::new(&checked(addr));
    let checks = pool.start_health_checks().unwrap();
    soon(answered.notified()).await;
    let weak = Arc::downgrade(&pool.0);
    drop((checks, pool));
    soon(async {
        while weak.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_pool_without_health_checks_starts_none() {
    assert!(Pool::new(&three(Balance::RoundRobin)).start_health_checks().is_none());
}
