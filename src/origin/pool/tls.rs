//! TLS for health checks, with the same trust as requests: the origin's own `ca`, or else the system's authorities.

use pingora::tls::CertificateDer;
use pingora::tls::{
    ClientConfig, ClientTlsStream, CryptoProvider, DigitallySignedStruct, HandshakeSignatureValid, RootCertStore,
    RusTlsError, ServerCertVerified, ServerCertVerifier, ServerName, SignatureScheme, TlsConnector, UnixTime,
    install_default_crypto_provider, load_ca_file_into_store, load_platform_certs_incl_env_into_store, version,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;

pub(super) struct Connector(TlsConnector);

impl Connector {
    /// An authority that cannot be read is left out and logged: the check then fails and says why.
    pub(super) fn new(ca: Option<&Path>, verify: bool) -> Self {
        install_default_crypto_provider();
        let mut roots = RootCertStore::empty();
        let read = match ca {
            _ if !verify => Ok(()),
            Some(ca) => load_ca_file_into_store(ca, &mut roots),
            None => load_platform_certs_incl_env_into_store(&mut roots),
        };
        if let Err(error) = read {
            let file = ca.map(|ca| ca.display().to_string()).unwrap_or_default();
            tracing::warn!(%error, file, "certificate authorities for health checks cannot be read");
        }
        let mut config = ClientConfig::builder_with_protocol_versions(&[&version::TLS12, &version::TLS13])
            .with_root_certificates(roots)
            .with_no_client_auth();
        if !verify {
            config.dangerous().set_certificate_verifier(Arc::new(TrustAnything));
        }
        Connector(TlsConnector::from(Arc::new(config)))
    }

    pub(super) async fn connect(&self, sni: &str, stream: TcpStream) -> io::Result<ClientTlsStream<TcpStream>> {
        let name = ServerName::try_from(sni.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

/// `verify: false`: the operator said so.
#[derive(Debug)]
struct TrustAnything;

impl ServerCertVerifier for TrustAnything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, RusTlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RusTlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RusTlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        CryptoProvider::get_default()
            .map(|provider| provider.signature_verification_algorithms.supported_schemes())
            .unwrap_or_default()
    }
}
