//! Whose certificate it is: SIP domain identities (RFC 5922 §7).

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sipora_message::{Scheme, Uri};
use std::sync::Arc;
use webpki::EndEntityCert;

/// Checks a server's certificate: its chain as everywhere, its name as RFC 5922 §7.3 has it.
#[derive(Debug)]
pub(crate) struct SipServerVerifier {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    pub(crate) allow_wildcards: bool,
}

impl ServerCertVerifier for SipServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let certificate = EndEntityCert::try_from(end_entity)
            .map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let domains = domains(&certificate);
        let is_valid = match server_name {
            ServerName::DnsName(name) => domains
                .iter()
                .any(|domain| matches(domain, name.as_ref(), self.allow_wildcards)),
            // RFC 5922 knows domains alone. A URI whose host is an address can only mean a certificate for that address.
            address => certificate
                .verify_is_valid_for_subject_name(address)
                .is_ok(),
        };
        if is_valid {
            Ok(ServerCertVerified::assertion())
        } else {
            let error = CertificateError::NotValidForNameContext {
                expected: server_name.to_owned(),
                presented: domains.iter().map(|domain| domain.to_string()).collect(),
            };
            Err(error.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Returns the SIP domains that a certificate is for, in lower case.
pub(crate) fn domains_of(certificate: &CertificateDer<'_>) -> Box<[Box<str>]> {
    EndEntityCert::try_from(certificate).map_or_else(|_| Box::default(), |it| domains(&it).into())
}

/// RFC 5922 §7.1: hosts of `sip` URIs without a user; DNS names if and only if there is no such URI. The common name is
/// not looked at, as the section allows.
fn domains(certificate: &EndEntityCert<'_>) -> Vec<Box<str>> {
    let uris: Vec<Box<str>> = certificate.valid_uri_names().filter_map(domain).collect();
    if !uris.is_empty() {
        return uris;
    }
    let names = certificate.valid_dns_names();
    names.map(|name| name.to_ascii_lowercase().into()).collect()
}

/// "If the scheme of the URI is not "sip", then the implementation MUST NOT accept the value"; nor one with a user.
fn domain(uri: &str) -> Option<Box<str>> {
    let uri = Uri::parse(uri).ok()?;
    let is_domain = uri.scheme() == Scheme::Sip && !uri.as_str().contains('@');
    is_domain.then(|| uri.host_str().to_ascii_lowercase().into())
}

/// RFC 5922 §7.2: compared in their entirety and without regard to case; MUST NOT match wildcards, unless that is allowed.
pub(crate) fn matches(domain: &str, name: &str, allow_wildcards: bool) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.eq_ignore_ascii_case(name) {
        return true;
    }
    let parent = domain.strip_prefix("*.").filter(|_| allow_wildcards);
    let (Some(parent), Some((label, rest))) = (parent, name.split_once('.')) else {
        return false;
    };
    !label.is_empty() && parent.contains('.') && parent.eq_ignore_ascii_case(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sip_uris_without_a_user_name_a_domain() {
        assert_eq!(domain("sip:Example.com").as_deref(), Some("example.com"));
        assert_eq!(domain("SIP:example.com").as_deref(), Some("example.com"));
        assert_eq!(
            domain("sip:example.com:5061;transport=tcp").as_deref(),
            Some("example.com")
        );
        for other in [
            "sips:example.com",
            "sip:bob@example.com",
            "https://example.com",
            "sip:",
        ] {
            assert_eq!(domain(other), None, "{other}");
        }
    }

    #[test]
    fn names_match_in_their_entirety_and_whatever_their_case() {
        assert!(matches("example.com", "Example.COM", false));
        assert!(matches("example.com", "example.com.", false));
        assert!(!matches("example.com", "foo.example.com", true));
        assert!(!matches("foo.example.com", "example.com", true));
        assert!(!matches(".example.com", "foo.example.com", true));
    }

    #[test]
    fn a_wildcard_stands_for_one_label_where_it_is_allowed() {
        assert!(!matches("*.example.com", "foo.example.com", false));
        assert!(matches("*.example.com", "foo.example.com", true));
        assert!(!matches("*.example.com", "a.foo.example.com", true));
        assert!(!matches("*.example.com", "example.com", true));
        assert!(!matches("*.com", "example.com", true));
        assert!(!matches("*.example.com", ".example.com", true));
    }
}
