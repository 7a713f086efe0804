//! A client with one connection.

use crate::PATIENCE;
use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::time::Instant;
use tokio::net::TcpStream;

/// What the bearer of this may ask the admin listener.
pub(crate) const TOKEN: &str = "cluster-example";

pub(crate) struct Client(SendRequest<Full<Bytes>>);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Connects as soon as somebody listens.
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("nobody listens on {address}"));
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        };
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client(sender))
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Answer> {
        self.ask(Method::GET, path, "").await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Result<Answer> {
        self.ask(Method::POST, path, body).await
    }

    async fn ask(&mut self, method: Method, path: &str, body: &str) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(path).header("host", "cluster.test");
        // Answers to who is authorized are for nobody else.
        if path.starts_with("/v1/") {
            request = request.header("authorization", format!("Bearer {TOKEN}"));
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
        let answered = async {
            self.0.ready().await?;
            let (head, body) = self.0.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer { status: head.status.as_u16(), body })
        };
        tokio::time::timeout(PATIENCE, answered).await.with_context(|| format!("{path}: no answer"))?
    }
}
