//! The yardstick of the comparison: a Pingora proxy that answers every request with the same kilobyte.
//!
//! `constant ADDRESS`

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::prelude::{Error, ErrorType, HttpPeer, Result};
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Constant(Bytes);

#[async_trait]
impl ProxyHttp for Constant {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> Result<bool> {
        session.set_keepalive(Some(60));
        let mut head = ResponseHeader::build_no_case(200, Some(8))?;
        head.insert_header("content-type", "text/plain")?;
        head.insert_header("content-length", self.0.len())?;
        head.insert_header("cache-control", "max-age=3600")?;
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(self.0.clone()), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "every request is answered before")
    }
}

fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8090".to_owned());
    let conf = ServerConf { threads: 1, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Constant(Bytes::from(vec![b'x'; 1024])));
    service.threads = Some(1);
    service.add_tcp(&address);
    server.add_service(service);
    server.run_forever();
}
