//! TLS: which certificate, and whom to believe.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Deserialize;
use sipora_call_engine::{ClientAuth, Pem, Roots, Tls, TlsConfig, TlsProvider};
use sipora_session_core::message::{Host, Scheme, Uri};

use crate::exit::{Failure, chain};

/// What a server has TLS with.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(crate) struct ServerTls {
    /// Certificate in PEM, with what links it to its root, for tls: and wss: listeners; read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Roots in PEM to believe certificates of others by, or the word system [default: system]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Whether clients have to show a certificate; needs --tls-ca [default: none]
    #[arg(long, value_name = "WHETHER")]
    pub(crate) tls_client_auth: Option<Demand>,
}

/// Says whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Demand {
    None,
    Optional,
    Required,
}

impl ServerTls {
    /// Reads the files. None where there is no certificate.
    pub(crate) fn read(&self) -> Result<Option<Tls>, Failure> {
        let demand = self.tls_client_auth.unwrap_or(Demand::None);
        let (certificate, key) = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => return Err(Failure::Local(NO_KEY.to_owned())),
            (None, Some(_)) => return Err(Failure::Local(NO_CERTIFICATE.to_owned())),
            (None, None) if demand == Demand::None && self.tls_ca.is_none() => return Ok(None),
            (None, None) => return Err(Failure::Local(NOTHING_TO_SHOW.to_owned())),
        };
        if demand != Demand::None && self.tls_ca.is_none() {
            return Err(Failure::Local(NO_CLIENT_ROOTS.to_owned()));
        }
        let roots = roots(self.tls_ca.as_deref());
        let client_auth = match demand {
            Demand::None => ClientAuth::None,
            Demand::Optional => ClientAuth::Optional(roots.clone()),
            Demand::Required => ClientAuth::Required(roots.clone()),
        };
        TlsConfig::new(TlsProvider::Ring)
            .certificate(Pem::file(certificate), Pem::file(key))
            .roots(roots)
            .client_auth(client_auth)
            .build()
            .map(Some)
            .map_err(|error| Failure::Local(chain(&error)))
    }
}

/// What a client has TLS with.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ClientTls {
    /// Roots in PEM to believe servers by, for TLS [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Certificate in PEM to show to servers that demand one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// Gives a client what it needs for these URIs: nothing, unless one of them demands TLS or DNS may lead it there.
pub(crate) fn for_client(files: &ClientTls, uris: &[&Uri]) -> Result<Option<Tls>, Failure> {
    let ca = files.tls_ca.as_deref();
    let is_given = ca.is_some() || files.tls_cert.is_some();
    let is_wanted = is_given || uris.iter().any(|uri| is_secure(uri));
    if !is_wanted && !uris.iter().any(|uri| is_left_to_dns(uri)) {
        return Ok(None);
    }
    let mut config = TlsConfig::new(TlsProvider::Ring).roots(roots(ca));
    if let (Some(certificate), Some(key)) = (&files.tls_cert, &files.tls_key) {
        config = config.certificate(Pem::file(certificate), Pem::file(key));
    }
    match config.build() {
        Ok(tls) => Ok(Some(tls)),
        Err(error) if is_wanted => Err(Failure::Local(chain(&error))),
        // Nobody has asked for it: then DNS leads somewhere else.
        Err(_) => Ok(None),
    }
}

fn is_secure(uri: &Uri) -> bool {
    let transport = uri.transport().unwrap_or_default();
    let is = |name: &str| transport.eq_ignore_ascii_case(name);
    uri.scheme() == Scheme::Sips || is("tls") || is("wss")
}

/// RFC 3263 §4.1: a name without transport and port has its transport from NAPTR and SRV records.
fn is_left_to_dns(uri: &Uri) -> bool {
    matches!(uri.host(), Host::Name(_)) && uri.transport().is_none() && uri.port().is_none()
}

fn roots(ca: Option<&Path>) -> Roots {
    match ca {
        Some(word) if is_system(word) => Roots::System,
        Some(file) => Roots::Given(vec![Pem::file(file)]),
        None => Roots::System,
    }
}

/// The roots of the system by name: a choice, where its silence would be none. A file of that name has a folder before it.
pub(crate) fn is_system(ca: &Path) -> bool {
    ca == Path::new("system")
}

const NO_KEY: &str =
    "--tls-cert needs --tls-key (tls_key in the configuration file): the key of the certificate";
const NO_CERTIFICATE: &str =
    "--tls-key needs --tls-cert (tls_cert in the configuration file): the certificate of the key";
const NOTHING_TO_SHOW: &str = "--tls-ca and --tls-client-auth need --tls-cert and --tls-key: without a certificate a server \
    has no TLS";

/// The system's roots have issued certificates to half the world, so that to require one of theirs keeps nobody out.
const NO_CLIENT_ROOTS: &str = "--tls-client-auth needs --tls-ca (tls_ca in the configuration file): the roots that clients' \
    certificates have to come from; `system` for those of the system, which let in whoever has a certificate of the web";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_certificates_let_clients_in_has_to_be_said() {
        let mut tls = ServerTls {
            tls_cert: Some("/nonexistent/cert.pem".into()),
            tls_key: Some("/nonexistent/key.pem".into()),
            ..ServerTls::default()
        };
        let problem = |tls: &ServerTls| tls.read().unwrap_err().to_string();
        for demand in [Demand::Optional, Demand::Required] {
            tls.tls_client_auth = Some(demand);
            assert!(problem(&tls).contains("needs --tls-ca"), "{demand:?}");
        }
        for ca in ["system", "/nonexistent/ca.pem"] {
            tls.tls_ca = Some(ca.into());
            assert!(problem(&tls).contains("cannot read"), "{ca}");
        }
        (tls.tls_ca, tls.tls_client_auth) = (None, Some(Demand::None));
        assert!(problem(&tls).contains("cannot read"));
    }

    #[test]
    fn tls_settings_without_a_certificate_are_refused_and_not_ignored() {
        let file = || Some(PathBuf::from("/nonexistent/file.pem"));
        let problem = |tls: ServerTls| tls.read().unwrap_err().to_string();
        let none = ServerTls::default;
        assert!(none().read().unwrap().is_none());
        let tls = ServerTls {
            tls_cert: file(),
            ..none()
        };
        assert!(problem(tls).contains("needs --tls-key"));
        let tls = ServerTls {
            tls_key: file(),
            ..none()
        };
        assert!(problem(tls).contains("needs --tls-cert"));
        let tls = ServerTls {
            tls_ca: file(),
            ..none()
        };
        assert!(problem(tls).contains("without a certificate"));
        let tls_client_auth = Some(Demand::Required);
        let tls = ServerTls {
            tls_client_auth,
            ..none()
        };
        assert!(problem(tls).contains("without a certificate"));
    }

    #[test]
    fn roots_are_read_where_tls_is_wanted_and_nowhere_else() {
        let uri = |text: &str| Uri::parse(text).unwrap();
        let missing = ClientTls {
            tls_ca: Some("/nonexistent/ca.pem".into()),
            ..ClientTls::default()
        };
        let none = ClientTls::default();
        for text in ["sip:a;transport=tcp", "sip:a:5060", "sip:192.0.2.1"] {
            assert!(
                for_client(&none, &[&uri(text)]).unwrap().is_none(),
                "{text}"
            );
        }
        for text in ["sips:a", "sip:a;transport=TLS"] {
            assert!(
                for_client(&none, &[&uri(text)]).unwrap().is_some(),
                "{text}"
            );
        }
        let failure = for_client(&missing, &[&uri("sips:a")]).unwrap_err();
        assert!(
            failure.to_string().contains("/nonexistent/ca.pem"),
            "{failure}"
        );
    }
}
