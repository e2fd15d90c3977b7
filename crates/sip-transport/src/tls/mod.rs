//! What TLS is done with: certificates, keys, and whom we believe.
//!
//! These types exist in every build, so that what stands above needs no features of its own to hold them; without one of
//! the features `tls-ring` and `tls-aws-lc-rs`, [`TlsConfig::build`] says so.

#[cfg(feature = "_tls")]
mod identity;
#[cfg(feature = "_tls")]
mod loaded;
#[cfg(feature = "_tls")]
pub(crate) mod stream;

use bytes::Bytes;
use std::fmt;
use std::path::PathBuf;
#[cfg(feature = "_tls")]
use std::sync::{Arc, PoisonError, RwLock};

/// Collects what TLS is done with, and becomes a [`Tls`].
///
/// ```no_run
/// use sipora_transport::{Pem, TlsConfig, TlsProvider, TransportConfig};
///
/// let tls = TlsConfig::new(TlsProvider::Ring)
///     .certificate(Pem::file("/etc/sipora/fullchain.pem"), Pem::file("/etc/sipora/privkey.pem"))
///     .build()?;
/// let config = TransportConfig { tls: Some(tls.clone()), ..Default::default() };
/// // When the certificate has been renewed:
/// tls.reload()?;
/// # Ok::<(), sipora_transport::TlsError>(())
/// ```
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "_tls"), allow(dead_code))]
pub struct TlsConfig {
    provider: TlsProvider,
    certificates: Vec<(Pem, Pem)>,
    roots: Roots,
    client_auth: ClientAuth,
    allow_wildcards: bool,
}

impl TlsConfig {
    /// Begins with no certificate of our own, the system's roots, no client certificates, and no wildcards: enough to
    /// connect to servers. Cryptography is the provider's, and none is installed for the whole process.
    pub fn new(provider: TlsProvider) -> TlsConfig {
        TlsConfig {
            provider,
            certificates: Vec::new(),
            roots: Roots::System,
            client_auth: ClientAuth::None,
            allow_wildcards: false,
        }
    }

    /// Adds a certificate of ours, with what links it to its root, and its key. A listener needs one.
    ///
    /// Of several, a client gets the one that carries the name which it asks for (SNI), and the first when none does.
    /// The first is also what we show to a server that asks for ours.
    pub fn certificate(mut self, chain: Pem, key: Pem) -> TlsConfig {
        self.certificates.push((chain, key));
        self
    }

    /// Says whom we believe when a server shows its certificate. Default [`Roots::System`].
    pub fn roots(mut self, roots: Roots) -> TlsConfig {
        self.roots = roots;
        self
    }

    /// Says whether clients have to show a certificate. Default [`ClientAuth::None`], as SIP telephones have passwords.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> TlsConfig {
        self.client_auth = client_auth;
        self
    }

    /// Lets `*.example.com` in a server's certificate stand for one label of a name. Default not: RFC 5922 §7.2 says that
    /// implementations MUST NOT match wildcards. WebSocket servers may have them in any case, as on the web.
    pub fn allow_wildcards(mut self, allow: bool) -> TlsConfig {
        self.allow_wildcards = allow;
        self
    }

    /// Reads certificates, keys and roots.
    pub fn build(self) -> Result<Tls, TlsError> {
        #[cfg(feature = "_tls")]
        {
            let loaded = loaded::Loaded::read(&self)?;
            Ok(Tls {
                inner: Arc::new(Inner {
                    config: self,
                    loaded: RwLock::new(Arc::new(loaded)),
                }),
            })
        }
        #[cfg(not(feature = "_tls"))]
        Err(TlsError::Provider(self.provider))
    }
}

/// Names a library of cryptography.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsProvider {
    /// The crate `ring`, with the feature `tls-ring`. It builds with a C compiler alone.
    Ring,
    /// The crate `aws-lc-rs`, with the feature `tls-aws-lc-rs`. It knows post-quantum key exchange.
    AwsLcRs,
}

impl TlsProvider {
    /// Returns a provider that this build has: aws-lc-rs before ring.
    pub const fn available() -> Option<TlsProvider> {
        if cfg!(feature = "tls-aws-lc-rs") {
            Some(TlsProvider::AwsLcRs)
        } else if cfg!(feature = "tls-ring") {
            Some(TlsProvider::Ring)
        } else {
            None
        }
    }
}

impl fmt::Display for TlsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsProvider::Ring => "ring",
            TlsProvider::AwsLcRs => "aws-lc-rs",
        })
    }
}

/// Holds PEM text, or where it stands.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pem {
    /// A file, read at [`TlsConfig::build`] and again at each [`Tls::reload`].
    File(PathBuf),
    /// The text itself.
    Bytes(Bytes),
}

impl Pem {
    /// Names a file.
    pub fn file(path: impl Into<PathBuf>) -> Pem {
        Pem::File(path.into())
    }

    /// Holds the text.
    pub fn bytes(text: impl Into<Bytes>) -> Pem {
        Pem::Bytes(text.into())
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => write!(f, "{}", path.display()),
            // It may be a key.
            Pem::Bytes(text) => write!(f, "{} bytes", text.len()),
        }
    }
}

/// Says whom we believe.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Roots {
    /// The roots that the operating system trusts.
    System,
    /// These and no others.
    Given(Vec<Pem>),
}

/// Says whether clients have to show a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They are asked, and one that they show has to be issued by these roots.
    Optional(Roots),
    /// Whoever shows none is not let in.
    Required(Roots),
}

/// Says why TLS cannot be done with what was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The build lacks the feature of the provider.
    #[error("this build has no TLS by {0}")]
    Provider(TlsProvider),
    /// A file cannot be read.
    #[error("cannot read `{path}`: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        message: String,
    },
    /// PEM text holds not what is needed: no certificate, no key, or not in that form.
    #[error("no {wanted} in {origin}: {message}")]
    Pem {
        /// What was looked for.
        wanted: &'static str,
        /// The file, or the number of bytes.
        origin: String,
        /// What was found.
        message: String,
    },
    /// The certificate and the key do not belong together, or the provider does not know their algorithm.
    #[error("certificate {origin}: {message}")]
    Certificate {
        /// The file, or the number of bytes.
        origin: String,
        /// What is wrong.
        message: String,
    },
    /// The roots cannot be used.
    #[error("roots: {0}")]
    Roots(String),
}

/// Holds certificates, keys and roots, read and checked. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Tls {
    #[cfg(feature = "_tls")]
    inner: Arc<Inner>,
}

#[cfg(feature = "_tls")]
#[derive(Debug)]
struct Inner {
    config: TlsConfig,
    loaded: RwLock<Arc<loaded::Loaded>>,
}

impl Tls {
    /// Reads everything again: handshakes from now on use what the files hold now. Connections that are open stay as they
    /// are, and where something cannot be read all stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        #[cfg(feature = "_tls")]
        {
            let loaded = loaded::Loaded::read(&self.inner.config)?;
            let current = self.inner.loaded.write();
            *current.unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
        }
        Ok(())
    }

    /// Tells whether there is a certificate of our own, as a listener needs it.
    pub fn has_certificate(&self) -> bool {
        #[cfg(feature = "_tls")]
        return !self.inner.config.certificates.is_empty();
        #[cfg(not(feature = "_tls"))]
        false
    }

    #[cfg(feature = "_tls")]
    fn loaded(&self) -> Arc<loaded::Loaded> {
        let loaded = self.inner.loaded.read();
        loaded.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
