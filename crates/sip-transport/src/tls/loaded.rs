//! From PEM text to what rustls works with.

use super::identity::{SipServerVerifier, domains_of, matches};
use super::{ClientAuth, Pem, Roots, TlsConfig, TlsError, TlsProvider};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use std::sync::Arc;
use tracing::warn;

/// What handshakes are done with, until the next reload.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Present where we have a certificate.
    pub(crate) server: Option<Arc<ServerConfig>>,
    /// Towards SIP servers.
    pub(crate) client: Arc<ClientConfig>,
    /// Towards WebSocket servers, which the web's rules are for.
    pub(crate) web_client: Arc<ClientConfig>,
}

impl Loaded {
    pub(crate) fn read(config: &TlsConfig) -> Result<Loaded, TlsError> {
        let provider = Arc::new(provider(config.provider)?);
        let certificates = config
            .certificates
            .iter()
            .map(|(chain, key)| Certificate::read(chain, key, &provider))
            .collect::<Result<Vec<_>, _>>()?;
        let certificates = Arc::new(Certificates { certificates });
        let roots = Arc::new(roots(&config.roots)?);
        let algorithms = provider.signature_verification_algorithms;

        let sip = Arc::new(SipServerVerifier {
            roots: roots.clone(),
            algorithms,
            allow_wildcards: config.allow_wildcards,
        });
        let client = |builder: rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>| {
            builder
                .dangerous()
                .with_custom_certificate_verifier(sip.clone())
                .with_client_cert_resolver(certificates.clone())
        };
        let web = match roots.is_empty() {
            // Rustls refuses to believe nobody, and so does our own verifier, at the handshake.
            true => client(client_builder(&provider)?),
            false => client_builder(&provider)?
                .with_webpki_verifier(
                    WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
                        .build()
                        .map_err(|error| TlsError::Roots(error.to_string()))?,
                )
                .with_client_cert_resolver(certificates.clone()),
        };
        Ok(Loaded {
            client: Arc::new(client(client_builder(&provider)?)),
            web_client: Arc::new(web),
            server: server(config, &certificates, &provider)?,
        })
    }
}

fn client_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Roots(error.to_string()))
}

fn server(
    config: &TlsConfig,
    certificates: &Arc<Certificates>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    if certificates.certificates.is_empty() {
        return Ok(None);
    }
    let verifier = |given: &Roots| {
        let roots = Arc::new(roots(given)?);
        Ok(WebPkiClientVerifier::builder_with_provider(
            roots,
            provider.clone(),
        ))
    };
    let failed = |error: &dyn std::fmt::Display| TlsError::Roots(error.to_string());
    let verifier = match &config.client_auth {
        ClientAuth::None => WebPkiClientVerifier::no_client_auth(),
        ClientAuth::Optional(roots) => verifier(roots)?
            .allow_unauthenticated()
            .build()
            .map_err(|error| failed(&error))?,
        ClientAuth::Required(roots) => verifier(roots)?.build().map_err(|error| failed(&error))?,
    };
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates.clone());
    Ok(Some(Arc::new(server)))
}

fn provider(wanted: TlsProvider) -> Result<CryptoProvider, TlsError> {
    match wanted {
        #[cfg(feature = "tls-ring")]
        TlsProvider::Ring => Ok(rustls::crypto::ring::default_provider()),
        #[cfg(feature = "tls-aws-lc-rs")]
        TlsProvider::AwsLcRs => Ok(rustls::crypto::aws_lc_rs::default_provider()),
        #[allow(unreachable_patterns)]
        other => Err(TlsError::Provider(other)),
    }
}

fn roots(roots: &Roots) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                warn!(%error, "roots of the system");
            }
            // A system may carry certificates that nobody can read any more; the others count.
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                warn!("the system has no roots: no server's certificate will be believed");
            }
        }
        Roots::Given(given) => {
            for pem in given {
                for certificate in chain(pem)? {
                    store
                        .add(certificate)
                        .map_err(|error| TlsError::Roots(format!("{pem:?}: {error}")))?;
                }
            }
        }
    }
    Ok(store)
}

/// Our certificates, which clients choose from by name.
#[derive(Debug)]
struct Certificates {
    certificates: Vec<Certificate>,
}

#[derive(Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    domains: Box<[Box<str>]>,
}

impl Certificate {
    fn read(certificate: &Pem, key: &Pem, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let chain = chain(certificate)?;
        let domains = chain.first().map_or_else(Box::default, domains_of);
        if domains.is_empty() {
            warn!(
                ?certificate,
                "no subjectAltName in the certificate: nobody will believe it"
            );
        }
        let secret = read_key(key)?;
        let key = CertifiedKey::from_der(chain, secret, provider).map_err(|error| {
            let message = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("it does not belong to the key in {key:?}")
                }
                error => format!("with the key in {key:?}: {error}"),
            };
            TlsError::Certificate {
                origin: format!("{certificate:?}"),
                message,
            }
        })?;
        Ok(Certificate {
            key: Arc::new(key),
            domains,
        })
    }
}

impl Certificates {
    /// RFC 6066 §3: by the name that the client wants. One that no certificate carries gets the first, as clients by
    /// number send none; whether to believe it is theirs to say.
    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let carries = |certificate: &&Certificate, name: &str| {
            let mut domains = certificate.domains.iter();
            domains.any(|domain| matches(domain, name, true))
        };
        let mut certificates = self.certificates.iter();
        let named =
            name.and_then(|name| certificates.find(|certificate| carries(certificate, name)));
        let chosen = named.or(self.certificates.first())?;
        Some(chosen.key.clone())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

impl ResolvesClientCert for Certificates {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.choose(None)
    }

    fn has_certs(&self) -> bool {
        !self.certificates.is_empty()
    }
}

fn read_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = text(pem)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let is_encrypted =
            contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(&text, b"4,ENCRYPTED");
        match (error, is_encrypted) {
            (pem::Error::NoItemsFound, true) => {
                let message = "it is encrypted, which nobody is there to decrypt".to_owned();
                unusable("private key", pem, message)
            }
            (error, _) => unusable("private key", pem, found(&text, &error)),
        }
    })
}

fn chain(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = text(pem)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable("certificate", pem, error.to_string()))?;
    if chain.is_empty() {
        let message = found(&text, &pem::Error::NoItemsFound);
        return Err(unusable("certificate", pem, message));
    }
    Ok(chain)
}

fn text(pem: &Pem) -> Result<bytes::Bytes, TlsError> {
    match pem {
        Pem::Bytes(text) => Ok(text.clone()),
        Pem::File(path) => match std::fs::read(path) {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(TlsError::File {
                path: path.clone(),
                message: error.to_string(),
            }),
        },
    }
}

fn unusable(wanted: &'static str, pem: &Pem, message: String) -> TlsError {
    TlsError::Pem {
        wanted,
        origin: format!("{pem:?}"),
        message,
    }
}

/// What is there in place of what was looked for.
fn found(text: &[u8], error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound if !contains(text, b"-----BEGIN") => "it is not in PEM".to_owned(),
        error => error.to_string(),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
