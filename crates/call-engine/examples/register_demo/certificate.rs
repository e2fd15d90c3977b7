//! A certificate for the demo's server, made as it starts and forgotten as it ends. A real server has one that others issued.

use std::error::Error;
use std::net::IpAddr;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use sipora_session_core::{Pem, Roots, Tls, TlsConfig, TlsProvider};

/// Makes TLS with a certificate for localhost and these addresses, and writes the root to believe it by into `root`.
pub(crate) fn make(addresses: &[IpAddr], root: Option<&Path>) -> Result<Tls, Box<dyn Error>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "authority of the registration demo");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    if let Some(root) = root {
        std::fs::write(root, issuer.pem())?;
    }

    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    let addresses = addresses.iter().map(|address| SanType::IpAddress(*address));
    params.subject_alt_names.extend(addresses);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    let (certificate, key) = (
        Pem::bytes(certificate.pem()),
        Pem::bytes(key.serialize_pem()),
    );
    let tls = TlsConfig::new(TlsProvider::Ring).certificate(certificate, key);
    Ok(tls
        .roots(Roots::Given(vec![Pem::bytes(issuer.pem())]))
        .build()?)
}
