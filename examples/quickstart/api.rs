//! A small JSON API. Each answer tells how many requests for it have come this far, so that hits can be seen.

use crate::port;
use anyhow::Result;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as Connection;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

const PORT: u16 = 9001;

/// Requests so far, by route.
#[derive(Debug, Default)]
struct Counters {
    time: AtomicU64,
    users: AtomicU64,
    slow: AtomicU64,
    private: AtomicU64,
    other: AtomicU64,
}

/// Starts the API.
pub(crate) async fn start() -> Result<SocketAddr> {
    let listener = port::listen(PORT).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(serve(listener));
    Ok(addr)
}

async fn serve(listener: TcpListener) {
    let counters = Arc::new(Counters::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let counters = counters.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(counters.clone(), request));
                    // A client that hangs up is no concern of the server's.
                    let _ = Connection::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
            // Out of file descriptors, say: others may close theirs.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(counters: Arc<Counters>, request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, "no-store", &json!({ "error": "only GET and HEAD" }));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    let path = request.uri().path();
    Ok(match path {
        "/api/time" => {
            reply(StatusCode::OK, "max-age=10", &json!({ "time": date(), "requests": count(&counters.time) }))
        }
        "/api/slow" => {
            let requests = count(&counters.slow);
            tokio::time::sleep(Duration::from_secs(2)).await;
            reply(StatusCode::OK, "max-age=30", &json!({ "took": "2s", "requests": requests }))
        }
        "/api/private" => {
            let requests = count(&counters.private);
            let mut response = reply(StatusCode::OK, "private", &json!({ "for": "you alone", "requests": requests }));
            response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_static("session=1; HttpOnly"));
            response
        }
        _ => match user(path) {
            Some((id, name)) => {
                let requests = count(&counters.users);
                reply(StatusCode::OK, "max-age=60", &json!({ "id": id, "name": name, "requests": requests }))
            }
            None => {
                let requests = count(&counters.other);
                reply(StatusCode::NOT_FOUND, "max-age=5", &json!({ "error": "no such thing", "requests": requests }))
            }
        },
    })
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed) + 1
}

fn user(path: &str) -> Option<(usize, &'static str)> {
    const NAMES: &[&str] = &["Ada", "Grace", "Edsger", "Barbara"];
    let id: usize = path.strip_prefix("/api/users/")?.parse().ok()?;
    Some((id, NAMES.get(id.checked_sub(1)?)?))
}

fn reply(status: StatusCode, cache_control: &'static str, body: &Value) -> Response<String> {
    let mut response = Response::new(format!("{body}\n"));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
    response
}

#[expect(clippy::disallowed_methods, reason = "telling the time is what this origin is for")]
fn date() -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now())
}
