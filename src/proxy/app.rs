//! The listener's application: Pingora's proxy, with a deadline for the first header of a connection.

use super::Hooks;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::time::Duration;

/// Pingora's proxy around [`Hooks`].
pub struct App {
    /// The proxy.
    pub proxy: Arc<HttpProxy<Hooks>>,
    /// How long a client may be silent before its header is complete.
    pub header_timeout: Duration,
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        // The framework's own limit is a minute for each read; a client that trickles its header holds a connection.
        session.set_read_timeout(Some(self.header_timeout));
        self.proxy.process_new_http(session, shutdown).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
