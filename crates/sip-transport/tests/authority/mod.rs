//! A certificate authority for tests.
#![allow(dead_code)]

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use sipora_transport::{Pem, Roots, TlsConfig, TlsProvider};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Issues certificates that nobody believes but who is told to.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Each has a name of its own: two of one name would differ in nothing but their keys.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {number} of a test"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer }
    }

    /// The authority's own certificate.
    pub(crate) fn pem(&self) -> Pem {
        Pem::bytes(self.issuer.pem())
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::Given(vec![self.pem()])
    }

    /// Issues a certificate for names: `sip:…` becomes a URI, numbers an address, all else a DNS name.
    pub(crate) fn issue(&self, names: &[&str]) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) if name.contains(':') => SanType::URI((*name).try_into().unwrap()),
                Err(_) => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Settings that believe this authority, with a certificate for names unless there are none.
    pub(crate) fn config(&self, names: &[&str]) -> TlsConfig {
        let config = TlsConfig::new(TlsProvider::available().unwrap()).roots(self.roots());
        if names.is_empty() {
            return config;
        }
        let (certificate, key) = self.issue(names);
        config.certificate(Pem::bytes(certificate), Pem::bytes(key))
    }
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);
