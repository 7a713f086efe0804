//! A private certificate authority, and TLS in front of a scripted origin.

use super::Origin;
use pingora::tls::{CertificateDer, PrivateKeyDer, ServerConfig, TlsAcceptor, install_default_crypto_provider};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// An authority that nobody trusts who was not told to.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both PEM.
pub struct Identity {
    pub chain: String,
    pub key: String,
    der: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters of an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for one name or address.
    pub fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters of a certificate");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Identity { chain: certificate.pem(), key: key.serialize_pem(), der: (certificate.der().clone(), private) }
    }
}

/// An address where an [`Origin`] can be reached by TLS.
pub struct TlsFront {
    addr: SocketAddr,
    names: Arc<Mutex<Vec<String>>>,
}

impl TlsFront {
    pub async fn start(origin: &Origin, identity: Identity) -> Self {
        install_default_crypto_provider();
        let (certificate, key) = identity.der;
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key).expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("the port just bound");
        let (names, behind) = (Arc::new(Mutex::new(Vec::new())), origin.addr());
        let seen = names.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), seen.clone());
                tokio::spawn(async move {
                    // A peer that refuses the certificate ends its connection here.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
                    seen.lock().unwrap().push(name);
                    let Ok(mut plain) = TcpStream::connect(behind).await else { return };
                    let _ = copy_bidirectional(&mut stream, &mut plain).await;
                });
            }
        });
        TlsFront { addr, names }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The names that clients asked for, one for each connection.
    pub fn names(&self) -> Vec<String> {
        self.names.lock().unwrap().clone()
    }
}
