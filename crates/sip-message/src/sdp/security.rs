//! Attributes that secure media: DTLS (RFC 8122, RFC 4145, RFC 5763) and SDES (RFC 4568).

use std::fmt;

/// Who opens the connection (RFC 4145 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Setup {
    /// Its sender opens it.
    Active,
    /// Its sender waits.
    Passive,
    /// Either: what an offer says (RFC 5763 §5).
    ActPass,
    /// Not now.
    HoldConn,
}

/// The fingerprint of a certificate (RFC 8122 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint<'a> {
    /// The hash function, compared without case: `sha-256`.
    pub hash: &'a str,
    /// Pairs of hexadecimal digits with colons between them, as written.
    pub digest: &'a str,
}

/// A key for SRTP (RFC 4568 §4). It is a secret; what prints it prints the secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Crypto<'a> {
    /// By which an answer says which one it took.
    pub tag: u32,
    /// The algorithms: `AES_CM_128_HMAC_SHA1_80`.
    pub suite: &'a str,
    /// The keys, `inline:…`, as written.
    pub key_params: &'a str,
    /// The session parameters, as written.
    pub session_params: &'a str,
}

impl Setup {
    /// The word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Setup::Active => "active",
            Setup::Passive => "passive",
            Setup::ActPass => "actpass",
            Setup::HoldConn => "holdconn",
        }
    }

    pub(super) fn parse(value: &str) -> Option<Setup> {
        [
            Setup::Active,
            Setup::Passive,
            Setup::ActPass,
            Setup::HoldConn,
        ]
        .into_iter()
        .find(|setup| setup.as_str().eq_ignore_ascii_case(value.trim()))
    }
}

impl<'a> Fingerprint<'a> {
    /// `<hash function> <fingerprint>`
    pub fn parse(value: &'a str) -> Option<Fingerprint<'a>> {
        let (hash, digest) = value.trim().split_once(' ')?;
        let found = Fingerprint {
            hash,
            digest: digest.trim(),
        };
        found.bytes().map(|_| found)
    }

    /// The digest itself.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.digest
            .split(':')
            .map(|pair| match pair.len() {
                2 if pair.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                    u8::from_str_radix(pair, 16).ok()
                }
                _ => None,
            })
            .collect()
    }
}

impl<'a> Crypto<'a> {
    /// `<tag> <crypto-suite> <key-params> [<session-params>]`
    pub fn parse(value: &'a str) -> Option<Crypto<'a>> {
        let (tag, rest) = value.trim().split_once(' ')?;
        let (suite, rest) = rest.trim_start().split_once(' ')?;
        let rest = rest.trim_start();
        let (key_params, session_params) = rest.split_once(' ').unwrap_or((rest, ""));
        // 1*9DIGIT, without leading zeros
        let tag_is_short = tag.len() <= 9 && tag.bytes().all(|digit| digit.is_ascii_digit());
        Some(Crypto {
            tag: tag.parse().ok().filter(|_| tag_is_short)?,
            suite,
            key_params,
            session_params: session_params.trim(),
        })
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Fingerprint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.hash, self.digest)
    }
}

impl fmt::Display for Crypto<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.tag, self.suite, self.key_params)?;
        if !self.session_params.is_empty() {
            write!(f, " {}", self.session_params)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Crypto<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypto")
            .field("tag", &self.tag)
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}
