//! What `Authorization` and `Proxy-Authorization` carry.

use std::fmt;

use sipora_message::AuthValue;

use crate::algorithm::{Algorithm, Qop};
use crate::calculation::{Covered, Hex, Protection, response, secret_hash};
use crate::error::AuthError;
use crate::parameters::{Parameters, Printer};

/// One set of digest credentials as it stands in a header (RFC 7616 §3.4): a `digest-response`.
///
/// It proves nothing by itself: [`Authenticator::verify`](crate::Authenticator::verify) does that.
///
/// ```
/// use sipora_auth::DigestResponse;
/// use sipora_message::{HeaderName, Limits, Request};
///
/// let request = Request::parse(
///     "REGISTER sip:biloxi.com SIP/2.0\r\n\
///      Authorization: Digest username=\"bob\", realm=\"biloxi.com\", uri=\"sip:biloxi.com\",\r\n \
///      nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", qop=auth, nc=00000001, cnonce=\"0a4f113b\",\r\n \
///      response=\"6629fae49393a05397450978507c4ef1\"\r\n\r\n",
///     &Limits::default(),
/// )?;
/// for value in request.headers().credentials(&HeaderName::Authorization) {
///     let answer = DigestResponse::try_from(value?)?;
///     assert_eq!((answer.username(), answer.nonce_count()), ("bob", Some(1)));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct DigestResponse {
    pub(crate) username: String,
    pub(crate) realm: String,
    pub(crate) nonce: String,
    pub(crate) uri: String,
    pub(crate) response: String,
    pub(crate) opaque: Option<String>,
    pub(crate) userhash: Option<bool>,
    pub(crate) algorithm: AlgorithmName,
    pub(crate) protection: Option<SentProtection>,
}

/// The algorithm that an answer names. Unknown is not malformed: it is an answer to somebody else's challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AlgorithmName {
    /// None named, which means MD5.
    Absent,
    Known(Algorithm),
    Unknown,
}

/// The three parameters that go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SentProtection {
    /// `None`: a token that this crate does not know.
    pub(crate) qop: Option<Qop>,
    pub(crate) qop_text: String,
    pub(crate) nc_text: String,
    pub(crate) nc: u32,
    pub(crate) cnonce: String,
}

impl DigestResponse {
    /// Gives the username, or its hash where [`is_userhash`](Self::is_userhash).
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Tells whether the username is hashed (RFC 7616 §3.4.4).
    pub fn is_userhash(&self) -> bool {
        self.userhash.unwrap_or(false)
    }

    /// Gives the realm.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Gives the nonce that was answered.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Gives the digest `uri`, which is the Request-URI as the client wrote it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Gives the opaque value that came back.
    pub fn opaque(&self) -> Option<&str> {
        self.opaque.as_deref()
    }

    /// Gives the algorithm, MD5 where none is named; `None` where it is unknown to this crate.
    pub fn algorithm(&self) -> Option<Algorithm> {
        match self.algorithm {
            AlgorithmName::Absent => Some(Algorithm::Md5),
            AlgorithmName::Known(algorithm) => Some(algorithm),
            AlgorithmName::Unknown => None,
        }
    }

    /// Gives the quality of protection, where it has one that this crate knows.
    pub fn qop(&self) -> Option<Qop> {
        self.protection
            .as_ref()
            .and_then(|protection| protection.qop)
    }

    /// Gives the nonce count, where there is a quality of protection.
    pub fn nonce_count(&self) -> Option<u32> {
        self.protection.as_ref().map(|protection| protection.nc)
    }

    /// Computes what `response` must be for someone whose base secret is `base`; `None` for an unknown qop.
    pub(crate) fn expected(
        &self,
        algorithm: Algorithm,
        base: &Hex,
        covered: Covered<'_>,
    ) -> Option<Hex> {
        let protection = match &self.protection {
            None => None,
            Some(sent) => Some(Protection {
                qop: sent.qop?,
                qop_text: &sent.qop_text,
                nc: &sent.nc_text,
                cnonce: &sent.cnonce,
            }),
        };
        let cnonce = protection.map_or("", |protection| protection.cnonce);
        let secret = secret_hash(algorithm, base, &self.nonce, cnonce);
        Some(response(
            algorithm.hash(),
            &secret,
            &self.nonce,
            protection,
            covered,
        ))
    }

    pub(crate) fn from_parameters(parameters: &Parameters<'_>) -> Result<Self, AuthError> {
        if !parameters.is_digest() {
            return Err(AuthError::NotDigest);
        }
        let algorithm = match parameters.unique("algorithm")? {
            None => AlgorithmName::Absent,
            Some(name) => name
                .parse()
                .map_or(AlgorithmName::Unknown, AlgorithmName::Known),
        };
        let userhash = match parameters.unique("userhash")? {
            None => None,
            Some(value) if value.eq_ignore_ascii_case("true") => Some(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Some(false),
            Some(_) => {
                return Err(AuthError::Invalid {
                    parameter: "userhash",
                });
            }
        };
        Ok(DigestResponse {
            username: username(parameters, userhash == Some(true))?,
            realm: parameters.required("realm")?,
            nonce: parameters.required("nonce")?,
            uri: parameters.required("uri")?,
            response: parameters.required("response")?,
            opaque: parameters.unique("opaque")?.map(str::to_owned),
            userhash,
            algorithm,
            protection: SentProtection::from_parameters(parameters)?,
        })
    }
}

impl SentProtection {
    fn from_parameters(parameters: &Parameters<'_>) -> Result<Option<Self>, AuthError> {
        let nc = parameters.unique("nc")?;
        let cnonce = parameters.unique("cnonce")?;
        // Without qop, RFC 2617 §3.2.2 forbids nc and cnonce; they are harmless, since the digest does not cover them.
        let Some(qop_text) = parameters.unique("qop")?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let nc_text = nc.ok_or(AuthError::Missing { parameter: "nc" })?;
        let cnonce = cnonce.ok_or(AuthError::Missing {
            parameter: "cnonce",
        })?;
        let invalid = AuthError::Invalid { parameter: "nc" };
        // 8LHEX, in either case; and the count starts at 1.
        if nc_text.len() != 8 || !nc_text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid);
        }
        let nc = match u32::from_str_radix(nc_text, 16) {
            Ok(nc) if nc > 0 => nc,
            _ => return Err(invalid),
        };
        Ok(Some(SentProtection {
            qop: qop_text.parse().ok(),
            qop_text: qop_text.to_owned(),
            nc_text: nc_text.to_owned(),
            nc,
            cnonce: cnonce.to_owned(),
        }))
    }
}

impl TryFrom<AuthValue<'_>> for DigestResponse {
    type Error = AuthError;

    fn try_from(value: AuthValue<'_>) -> Result<Self, AuthError> {
        DigestResponse::from_parameters(&Parameters::from(value))
    }
}

/// Prints the value of an `Authorization` or `Proxy-Authorization` line.
impl fmt::Display for DigestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printer = Printer::digest(f)?;
        printer.quoted("username", &self.username)?;
        printer.quoted("realm", &self.realm)?;
        printer.quoted("nonce", &self.nonce)?;
        printer.quoted("uri", &self.uri)?;
        printer.quoted("response", &self.response)?;
        if let AlgorithmName::Known(algorithm) = self.algorithm {
            printer.plain("algorithm", algorithm.as_str())?;
        }
        if let Some(protection) = &self.protection {
            printer.quoted("cnonce", &protection.cnonce)?;
            printer.plain("qop", &protection.qop_text)?;
            printer.plain("nc", &protection.nc_text)?;
        }
        if let Some(opaque) = &self.opaque {
            printer.quoted("opaque", opaque)?;
        }
        if let Some(userhash) = self.userhash {
            printer.plain("userhash", if userhash { "true" } else { "false" })?;
        }
        Ok(())
    }
}

/// Leaves out the digest, from which a weak password can be guessed, and the opaque values around it.
impl fmt::Debug for DigestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestResponse")
            .field("username", &self.username)
            .field("realm", &self.realm)
            .field("uri", &self.uri)
            .field("algorithm", &self.algorithm)
            .field("qop", &self.qop())
            .field("nc", &self.nonce_count())
            .finish_non_exhaustive()
    }
}

/// Reads `username` or `username*` (RFC 7616 §3.4: both MUST be treated as an error).
fn username(parameters: &Parameters<'_>, hashed: bool) -> Result<String, AuthError> {
    let invalid = AuthError::Invalid {
        parameter: "username*",
    };
    match (
        parameters.unique("username")?,
        parameters.unique("username*")?,
    ) {
        (Some(plain), None) => Ok(plain.to_owned()),
        (None, Some(_)) if hashed => Err(invalid),
        (None, Some(extended)) => extended_value(extended).ok_or(invalid),
        (Some(_), Some(_)) => Err(AuthError::Duplicate {
            parameter: "username",
        }),
        (None, None) => Err(AuthError::Missing {
            parameter: "username",
        }),
    }
}

/// Decodes `UTF-8'language'percent-encoded` (RFC 5987 §3.2).
fn extended_value(text: &str) -> Option<String> {
    let mut parts = text.splitn(3, '\'');
    let (charset, _language, encoded) = (parts.next()?, parts.next()?, parts.next()?);
    if !charset.eq_ignore_ascii_case("UTF-8") {
        return None;
    }
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::answer;

    const FULL: &str = r#"Digest username="zoë \"z\"", realm="r", nonce="n", uri="sip:r", response="00", algorithm=SHA-256, cnonce="c", qop=auth, nc=0000000a, opaque="o", userhash=false"#;

    #[test]
    fn printed_credentials_are_read_back() {
        let answer = answer(FULL).expect("well-formed");
        assert_eq!(answer.to_string(), FULL);
        assert_eq!(answer.username(), "zoë \"z\"");
        assert_eq!(answer.nonce_count(), Some(10));
    }

    #[test]
    fn debug_shows_neither_digest_nor_nonces() {
        let answer = answer(&FULL.replace("\"00\"", "\"5ec2e7\"")).expect("fine");
        let text = format!("{answer:?}");
        assert!(!text.contains("5ec2e7"), "{text}");
        assert!(text.contains("zoë"), "{text}");
    }

    #[test]
    fn the_extended_username_is_decoded() {
        let answer = answer(r#"Digest username*=UTF-8''J%C3%A4s%C3%B8n%20Doe, realm="r", nonce="n", uri="/", response="00""#).expect("RFC 7616 3.9.2");
        assert_eq!(answer.username(), "Jäsøn Doe");
        for bad in [
            "UTF-8''%G0",
            "UTF-8''%C3",
            "latin1''a",
            "UTF-8",
            "UTF-8''%+1",
        ] {
            assert_eq!(extended_value(bad), None, "{bad}");
        }
    }

    #[test]
    fn malformed_credentials_name_their_parameter() {
        let cases = [
            ("nc=0000000a, ", "", AuthError::Missing { parameter: "nc" }),
            (
                "nc=0000000a",
                "nc=1",
                AuthError::Invalid { parameter: "nc" },
            ),
            (
                "nc=0000000a",
                "nc=00000000",
                AuthError::Invalid { parameter: "nc" },
            ),
            (
                "nc=0000000a",
                "nc=+000000a",
                AuthError::Invalid { parameter: "nc" },
            ),
            (
                "cnonce=\"c\", ",
                "",
                AuthError::Missing {
                    parameter: "cnonce",
                },
            ),
            (
                "uri=\"sip:r\", ",
                "",
                AuthError::Missing { parameter: "uri" },
            ),
            (
                "realm=\"r\", ",
                "username*=UTF-8''x, realm=\"r\", ",
                AuthError::Duplicate {
                    parameter: "username",
                },
            ),
            (
                "userhash=false",
                "userhash=maybe",
                AuthError::Invalid {
                    parameter: "userhash",
                },
            ),
        ];
        for (from, to, error) in cases {
            let text = FULL.replace(from, to);
            assert_eq!(answer(&text), Err(error), "{text}");
        }
    }
}
