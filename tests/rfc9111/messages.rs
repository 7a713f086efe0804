//! How messages pass through: RFC 9110 sections 6, 7 and 15.2, RFC 9112, RFC 9211.

mod cache_status;
mod connection;
mod failures;
mod fields;
mod framing;
mod head;
mod http2;
mod interim;
mod post;

use crate::support::{Origin, Proxy};
use tokio::net::TcpListener;

async fn pair() -> (Origin, Proxy) {
    let origin = Origin::start().await;
    let proxy = Proxy::plain(&origin).await;
    (origin, proxy)
}

/// A daemon in front of an origin that the test plays itself.
async fn bytes_origin() -> (TcpListener, Proxy) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let servers = format!("[\"{}\"]", listener.local_addr().expect("its number"));
    let keys = [("origins.main.http.servers", servers.as_str()), ("origins.main.http.retries", "0")];
    (listener, Proxy::builder_with(&keys).start().await)
}
