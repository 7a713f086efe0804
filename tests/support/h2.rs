//! A client of HTTP/2 that reads when it is told to, and not before.

use super::within;
use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::Request;
use pingora::tls::{ClientConfig, RootCertStore, ServerName, TlsConnector, install_default_crypto_provider};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// A connection for `test.example`.
pub struct H2 {
    requests: SendRequest<Bytes>,
}

/// A response whose body waits to be read. A little of it, the window, is on this side already.
pub struct H2Response {
    pub head: http::response::Parts,
    body: RecvStream,
    // The connection lives as long as somebody may ask or read.
    _requests: SendRequest<Bytes>,
}

impl H2 {
    /// Connects by TLS, trusting the authority in `ca`, with the windows that the standard begins with.
    pub async fn connect(addr: SocketAddr, ca: &str) -> Self {
        install_default_crypto_provider();
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(ca.as_bytes()).expect("an authority");
        roots.add(authority).expect("an authority");
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("test.example").expect("a name");
        let stream = TcpStream::connect(addr).await.expect("a connection");
        // Boxed: what is moved around here is larger than the stack of a test's thread.
        let stream = Box::new(Box::pin(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.expect("TLS"));
        let (requests, connection) = Box::pin(h2::client::handshake(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        H2 { requests }
    }

    pub async fn get(&self, path: &str) -> H2Response {
        self.call("GET", path, &[]).await
    }

    /// Asks and reads the head.
    pub async fn call(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> H2Response {
        let request = Request::builder().method(method).uri(format!("https://test.example{path}"));
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(()).expect("a request");
        let mut requests = self.requests.clone().ready().await.expect("a connection that takes requests");
        let (response, _) = requests.send_request(request, true).expect("a request sent");
        let response = within("a head by HTTP/2", response).await.expect("a head");
        let (head, body) = response.into_parts();
        H2Response { head, body, _requests: requests }
    }
}

impl H2Response {
    /// The next bytes; `None` at the end.
    pub async fn piece(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let piece = within("a piece of a body by HTTP/2", self.body.data()).await?;
        if let Ok(piece) = &piece {
            let _ = self.body.flow_control().release_capacity(piece.len());
        }
        Some(piece)
    }

    /// Everything that is left; an error if it was broken off.
    pub async fn rest(mut self) -> Result<Vec<u8>, h2::Error> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await {
            body.extend_from_slice(&piece?);
        }
        Ok(body)
    }

    /// Resets the stream.
    pub fn leave(self) {}
}
