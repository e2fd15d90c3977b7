//! What `WWW-Authenticate` and `Proxy-Authenticate` carry.

use std::fmt;

use sipora_message::AuthValue;

use crate::algorithm::{Algorithm, Qop};
use crate::error::AuthError;
use crate::parameters::{Parameters, Printer};

/// One digest challenge (RFC 7616 §3.3), of a kind that this crate can answer.
///
/// ```
/// use sipora_auth::{Algorithm, Challenge, Qop};
/// use sipora_message::{HeaderName, Limits, Response};
///
/// let response = Response::parse(
///     "SIP/2.0 401 Unauthorized\r\n\
///      WWW-Authenticate: Digest realm=\"biloxi.com\", qop=\"auth,auth-int\", algorithm=SHA-256,\r\n \
///      nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"\r\n\r\n",
///     &Limits::default(),
/// )?;
/// for value in response.headers().challenges(&HeaderName::WwwAuthenticate) {
///     let challenge = Challenge::try_from(value?)?;
///     assert_eq!(challenge.realm(), "biloxi.com");
///     assert_eq!(challenge.algorithm(), Algorithm::Sha256);
///     assert_eq!(challenge.qops(), [Qop::Auth, Qop::AuthInt]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub(crate) realm: String,
    pub(crate) nonce: String,
    pub(crate) opaque: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) qops: Vec<Qop>,
    pub(crate) stale: bool,
    pub(crate) userhash: bool,
}

impl Challenge {
    /// Gives the realm, the one thing that defines a protection space in SIP (RFC 3261 §22.1).
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Gives the nonce.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Gives the opaque value, which an answer repeats.
    pub fn opaque(&self) -> Option<&str> {
        self.opaque.as_deref()
    }

    /// Gives the algorithm; MD5 where the challenge names none.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Lists the known qualities of protection on offer. Empty: none was mentioned, as in RFC 2069.
    pub fn qops(&self) -> &[Qop] {
        &self.qops
    }

    /// Tells whether the server says that only the nonce was wrong.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Tells whether the server would take a hashed username (RFC 7616 §3.4.4).
    pub fn accepts_userhash(&self) -> bool {
        self.userhash
    }

    fn from_parameters(parameters: &Parameters<'_>) -> Result<Self, AuthError> {
        if !parameters.is_digest() {
            return Err(AuthError::NotDigest);
        }
        let flag = |name| -> Result<bool, AuthError> {
            // RFC 7616 §3.3: anything other than "true", whatever its case, is false.
            Ok(parameters
                .unique(name)?
                .is_some_and(|value| value.eq_ignore_ascii_case("true")))
        };
        let algorithm = match parameters.unique("algorithm")? {
            Some(name) => name.parse().map_err(|_| AuthError::UnknownAlgorithm)?,
            None => Algorithm::Md5,
        };
        let qops = known_qops(parameters.unique("qop")?.unwrap_or_default())?;
        if qops.is_empty() && algorithm.is_session() {
            // RFC 3261 §22.4 item 8: algorithms that depend on the cnonce require qop.
            return Err(AuthError::Missing { parameter: "qop" });
        }
        Ok(Challenge {
            realm: parameters.required("realm")?,
            nonce: parameters.required("nonce")?,
            opaque: parameters.unique("opaque")?.map(str::to_owned),
            algorithm,
            qops,
            stale: flag("stale")?,
            userhash: flag("userhash")?,
        })
    }
}

impl TryFrom<AuthValue<'_>> for Challenge {
    type Error = AuthError;

    fn try_from(value: AuthValue<'_>) -> Result<Self, AuthError> {
        Challenge::from_parameters(&Parameters::from(value))
    }
}

/// Prints the value of a `WWW-Authenticate` or `Proxy-Authenticate` line.
impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = Printer::digest(f)?;
        printer.quoted("realm", &self.realm)?;
        printer.quoted("nonce", &self.nonce)?;
        if let Some(opaque) = &self.opaque {
            printer.quoted("opaque", opaque)?;
        }
        printer.plain("algorithm", self.algorithm.as_str())?;
        if !self.qops.is_empty() {
            let names: Vec<&str> = self.qops.iter().map(|qop| qop.as_str()).collect();
            printer.quoted("qop", &names.join(","))?;
        }
        if self.stale {
            printer.plain("stale", "true")?;
        }
        if self.userhash {
            printer.plain("userhash", "true")?;
        }
        Ok(())
    }
}

/// Reads a list of qualities of protection. RFC 7616 §3.3: unrecognized options MUST be ignored.
fn known_qops(list: &str) -> Result<Vec<Qop>, AuthError> {
    let mut named = false;
    let mut known = Vec::new();
    for name in list.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        named = true;
        match name.parse() {
            Ok(qop) if !known.contains(&qop) => known.push(qop),
            _ => {}
        }
    }
    match named && known.is_empty() {
        true => Err(AuthError::UnknownQop),
        false => Ok(known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::challenge;

    #[test]
    fn a_bare_challenge_means_md5_without_qop() {
        let challenge = challenge("Digest realm=\"a\", nonce=\"b\"").expect("minimal");
        assert_eq!(challenge.algorithm(), Algorithm::Md5);
        assert!(challenge.qops().is_empty());
        assert!(!challenge.is_stale());
        assert_eq!(challenge.opaque(), None);
    }

    #[test]
    fn printed_challenges_are_read_back() {
        for text in [
            r#"Digest realm="a \"b\" \\", nonce="n", algorithm=MD5"#,
            r#"Digest realm="zoë", nonce="n", opaque="", algorithm=SHA-256-sess, qop="auth,auth-int", stale=true, userhash=true"#,
        ] {
            assert_eq!(challenge(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn quoted_tokens_and_odd_case_are_understood() {
        let challenge = challenge(
            r#"digest REALM="a",nonce="n",algorithm="md5",qop="AUTH , token",stale="TRUE""#,
        )
        .expect("lenient");
        assert_eq!(challenge.algorithm(), Algorithm::Md5);
        assert_eq!(challenge.qops(), [Qop::Auth]);
        assert!(challenge.is_stale());
    }

    #[test]
    fn what_cannot_be_answered_is_an_error() {
        let cases = [
            (r#"Basic realm="a""#, AuthError::NotDigest),
            (
                r#"Digest realm="a", nonce="n", algorithm=SHA3"#,
                AuthError::UnknownAlgorithm,
            ),
            (
                r#"Digest realm="a", nonce="n", qop="auth-conf""#,
                AuthError::UnknownQop,
            ),
            (
                r#"Digest realm="a", nonce="n", algorithm=MD5-sess"#,
                AuthError::Missing { parameter: "qop" },
            ),
            (
                r#"Digest realm="a""#,
                AuthError::Missing { parameter: "nonce" },
            ),
            (
                r#"Digest nonce="a""#,
                AuthError::Missing { parameter: "realm" },
            ),
            (
                r#"Digest realm="a", nonce="n", nonce="m""#,
                AuthError::Duplicate { parameter: "nonce" },
            ),
        ];
        for (text, error) in cases {
            assert_eq!(challenge(text), Err(error), "{text}");
        }
    }
}
