//! Whom an origin's certificate must come from.

use pingora::tls::{CertificateDer, RootCertStore};
use pingora::upstreams::peer::PeerOptions;
use pingora::utils::tls::{WrappedX509, parse_x509};
use std::path::Path;
use std::sync::Arc;

/// What is checked of an origin's certificate.
#[derive(Debug)]
pub struct Trust {
    authorities: Option<Arc<[WrappedX509]>>,
    verify: bool,
}

impl Trust {
    /// `ca`: a PEM file of authorities to trust instead of the system's.
    pub fn new(ca: Option<&Path>, verify: bool) -> Result<Self, String> {
        let authorities = match ca {
            Some(ca) => {
                Some(read(ca).map_err(|e| format!("ca: {}: {e}; name a PEM file of certificates", ca.display()))?)
            }
            None => None,
        };
        Ok(Trust { authorities, verify })
    }

    /// Asks the connector for these checks.
    pub fn apply(&self, options: &mut PeerOptions) {
        options.ca = self.authorities.clone();
        options.verify_cert = self.verify;
        options.verify_hostname = self.verify;
    }
}

fn read(file: &Path) -> Result<Arc<[WrappedX509]>, String> {
    use rustls_pki_types::pem::PemObject;
    let certificates = CertificateDer::pem_file_iter(file).map_err(|e| e.to_string())?;
    let mut store = RootCertStore::empty();
    let mut authorities = Vec::new();
    for certificate in certificates {
        let certificate = certificate.map_err(|e| e.to_string())?;
        // Checked here, because parsing it below would panic on what is not a certificate.
        store.add(certificate.clone()).map_err(|e| e.to_string())?;
        authorities.push(WrappedX509::new(certificate.to_vec(), parse_x509));
    }
    if authorities.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    Ok(authorities.into())
}
