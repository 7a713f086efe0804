//! The listener's application: Pingora's proxy, on connections that hold nothing back, with a deadline for headers.

use super::prompt::{Outlet, PromptStream};
use super::{Gate, Hooks};
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use std::sync::Arc;

/// Takes connections.
pub struct App(Arc<Requests>);

impl App {
    /// `gate` is what `proxy` was made of, and knows how long a client may take for a header.
    pub fn new(proxy: HttpProxy<Hooks>, gate: Arc<Gate>) -> Self {
        App(Arc::new(Requests { proxy: Arc::new(proxy), gate }))
    }
}

#[async_trait]
impl ServerApp for App {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let prompt: Stream = Box::new(PromptStream::new(stream));
        ServerApp::process_new(&self.0, prompt, shutdown).await
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(&*self.0).await;
    }
}

/// Takes the requests of a connection.
struct Requests {
    proxy: Arc<HttpProxy<Hooks>>,
    gate: Arc<Gate>,
}

#[async_trait]
impl HttpServerApp for Requests {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let connection = PromptStream::of(&session).map(|stream| {
            stream.expect_head(self.gate.live.load().config.server.limits.header_timeout);
            stream.outlet()
        });
        let reused = self.proxy.process_new_http(session, shutdown).await;
        // The framework gives up each connection on which an origin failed, also those that it promised to keep.
        let kept = connection.and_then(Outlet::take_kept);
        reused.or(kept)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
