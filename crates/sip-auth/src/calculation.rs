//! The arithmetic of RFC 7616 §3.4: A1, A2, `response`, and nothing that touches a message.

use digest::Digest;
use md5::Md5;
use sha2::{Sha256, Sha512_256};

use crate::algorithm::{Algorithm, Hash, Qop};

/// A hash as lower-case hexadecimal digits, which is the form that RFC 7616 §3.1 feeds into further hashes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hex {
    digits: [u8; 64],
    length: usize,
}

impl Hex {
    /// Hashes the concatenation of `parts`.
    pub(crate) fn of(hash: Hash, parts: &[&[u8]]) -> Hex {
        match hash {
            Hash::Md5 => Hex::with::<Md5>(parts),
            Hash::Sha256 => Hex::with::<Sha256>(parts),
            Hash::Sha512_256 => Hex::with::<Sha512_256>(parts),
        }
    }

    /// Reads `text`, in either case, when it has the length of `hash`.
    pub(crate) fn parse(hash: Hash, text: &str) -> Option<Hex> {
        let length = match hash {
            Hash::Md5 => 32,
            Hash::Sha256 | Hash::Sha512_256 => 64,
        };
        if text.len() != length || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut digits = [0; 64];
        for (digit, byte) in digits.iter_mut().zip(text.bytes()) {
            *digit = byte.to_ascii_lowercase();
        }
        Some(Hex { digits, length })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.digits.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn with<D: Digest>(parts: &[&[u8]]) -> Hex {
        let mut hasher = D::new();
        for part in parts {
            hasher.update(part);
        }
        let output = hasher.finalize();
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(output.iter()) {
            pair.copy_from_slice(&hex_pair(*byte));
        }
        Hex {
            digits,
            length: output.len().saturating_mul(2).min(64),
        }
    }
}

/// Prints one byte as two lower-case hexadecimal digits.
pub(crate) fn hex_pair(byte: u8) -> [u8; 2] {
    let digit = |nibble: u8| match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + (nibble & 0x0f) - 10,
    };
    [digit(byte >> 4), digit(byte & 0x0f)]
}

/// Computes H(username ":" realm ":" password), which is H(A1) of the plain algorithms.
pub(crate) fn base_secret(hash: Hash, username: &str, realm: &str, password: &str) -> Hex {
    Hex::of(
        hash,
        &[
            username.as_bytes(),
            b":",
            realm.as_bytes(),
            b":",
            password.as_bytes(),
        ],
    )
}

/// Computes H(A1) of `algorithm` (RFC 7616 §3.4.2) from the base secret.
///
/// The session variants hash the *hexadecimal* base secret, as the text says and the sample code of RFC 2617 §5 does not.
pub(crate) fn secret_hash(algorithm: Algorithm, base: &Hex, nonce: &str, cnonce: &str) -> Hex {
    if !algorithm.is_session() {
        return base.clone();
    }
    Hex::of(
        algorithm.hash(),
        &[
            base.as_bytes(),
            b":",
            nonce.as_bytes(),
            b":",
            cnonce.as_bytes(),
        ],
    )
}

/// What the client counted and chose when it answered with a quality of protection.
#[derive(Clone, Copy)]
pub(crate) struct Protection<'a> {
    pub(crate) qop: Qop,
    /// The token as it stood in the message, because the digest covers its exact bytes.
    pub(crate) qop_text: &'a str,
    pub(crate) nc: &'a str,
    pub(crate) cnonce: &'a str,
}

/// The part of a request that a digest covers.
#[derive(Clone, Copy)]
pub(crate) struct Covered<'a> {
    pub(crate) method: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) body: &'a [u8],
}

/// Computes `response` (RFC 7616 §3.4.1); without `protection` the form of RFC 2069.
pub(crate) fn response(
    hash: Hash,
    secret_hash: &Hex,
    nonce: &str,
    protection: Option<Protection<'_>>,
    covered: Covered<'_>,
) -> Hex {
    let method = covered.method.as_bytes();
    let uri = covered.uri.as_bytes();
    let request_hash = match protection.map(|protection| protection.qop) {
        Some(Qop::AuthInt) => {
            // RFC 8760 §2.6: without a body, the hash of the empty string.
            let body = Hex::of(hash, &[covered.body]);
            Hex::of(hash, &[method, b":", uri, b":", body.as_bytes()])
        }
        Some(Qop::Auth) | None => Hex::of(hash, &[method, b":", uri]),
    };
    let Some(protection) = protection else {
        return Hex::of(
            hash,
            &[
                secret_hash.as_bytes(),
                b":",
                nonce.as_bytes(),
                b":",
                request_hash.as_bytes(),
            ],
        );
    };
    Hex::of(
        hash,
        &[
            secret_hash.as_bytes(),
            b":",
            nonce.as_bytes(),
            b":",
            protection.nc.as_bytes(),
            b":",
            protection.cnonce.as_bytes(),
            b":",
            protection.qop_text.as_bytes(),
            b":",
            request_hash.as_bytes(),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../testkit/fixtures/digest/vectors.tsv"
    );

    struct Row {
        columns: Vec<String>,
    }

    impl Row {
        fn all() -> Vec<(Vec<String>, Row)> {
            let text = std::fs::read_to_string(VECTORS).expect("the vectors are in the repository");
            let mut lines = text
                .lines()
                .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<String>>());
            let names = lines.next().expect("a header line");
            lines
                .map(|columns| (names.clone(), Row { columns }))
                .collect()
        }

        fn get<'a>(&'a self, names: &[String], name: &str) -> &'a str {
            let index = names.iter().position(|n| n == name).expect(name);
            &self.columns[index]
        }
    }

    #[test]
    fn every_row_of_the_vectors_has_the_printed_response_and_userhash() {
        let rows = Row::all();
        assert_eq!(
            rows.len(),
            7,
            "rows were added: nothing else to change here"
        );
        for (names, row) in &rows {
            let column = |name| row.get(names, name);
            let algorithm: Algorithm = column("algorithm").parse().expect("known");
            let base = base_secret(
                algorithm.hash(),
                column("username"),
                column("realm"),
                column("password"),
            );
            let secret = secret_hash(algorithm, &base, column("nonce"), column("cnonce"));
            let protection = Protection {
                qop: column("qop").parse().expect("known"),
                qop_text: column("qop"),
                nc: column("nc"),
                cnonce: column("cnonce"),
            };
            let covered = Covered {
                method: column("method"),
                uri: column("uri"),
                body: column("body").as_bytes(),
            };
            let response = response(
                algorithm.hash(),
                &secret,
                column("nonce"),
                Some(protection),
                covered,
            );
            assert_eq!(
                response.as_str(),
                column("response"),
                "{}",
                column("source")
            );
            let userhash = Hex::of(
                algorithm.hash(),
                &[
                    column("username").as_bytes(),
                    b":",
                    column("realm").as_bytes(),
                ],
            );
            assert_eq!(
                userhash.as_str(),
                column("userhash"),
                "{}",
                column("source")
            );
        }
    }

    // RFC 2069 §2.4 as corrected by erratum 749.
    #[test]
    fn without_qop_the_response_is_that_of_rfc_2069() {
        let base = base_secret(Hash::Md5, "Mufasa", "testrealm@host.com", "CircleOfLife");
        let response = response(
            Hash::Md5,
            &base,
            "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            None,
            Covered {
                method: "GET",
                uri: "/dir/index.html",
                body: b"",
            },
        );
        assert_eq!(response.as_str(), "1949323746fe6a43ef61f9606e7febea");
    }

    #[test]
    fn hexadecimal_digits_are_read_in_either_case_and_only_at_their_length() {
        let text = "0123456789ABCDEF0123456789abcdef";
        let hex = Hex::parse(Hash::Md5, text).expect("32 digits");
        assert_eq!(hex.as_str(), text.to_lowercase());
        assert!(Hex::parse(Hash::Sha256, text).is_none());
        assert!(Hex::parse(Hash::Md5, &text.replace('0', "g")).is_none());
    }
}
