//! Nonces that carry their own proof, so that no server has to remember them.

use std::hash::{DefaultHasher, Hasher};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::calculation::hex_pair;

/// Makes and recognizes nonces. Every node with the same key does, also after a restart.
///
/// A nonce is `issued (48 bits, milliseconds) | salt (48 bits) | HMAC-SHA-256 of both and the realm (96 bits)`, in hexadecimal.
#[derive(Clone)]
pub(crate) struct Nonces {
    keyed: Hmac<Sha256>,
    /// Begun with a secret. It only tells requests apart, which needs no cryptography.
    salting: DefaultHasher,
}

/// What a nonce turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Made with our key for this realm.
    Ours {
        /// Milliseconds since the Unix epoch.
        issued: u64,
        /// Names the nonce in a table. Nobody without the key can choose it.
        tag: u64,
    },
    /// Anything else.
    Foreign,
}

impl Nonces {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        // RFC 2104: a key shorter than a block is filled with zeros.
        let mut block = [0u8; 64];
        for (place, byte) in block.iter_mut().zip(key) {
            *place = *byte;
        }
        let keyed: Hmac<Sha256> = Hmac::new(&block.into());
        // A secret of its own, so that nothing which it lets out says anything of the key.
        let mut secret = keyed.clone();
        secret.update(b"salt");
        let mut salting = DefaultHasher::new();
        salting.write(&secret.finalize().into_bytes());
        Nonces { keyed, salting }
    }

    /// Makes the nonce of one challenge. `context` is whatever tells this request from others that come in the same
    /// millisecond: its Via, Call-ID and CSeq. So nonces differ without randomness, and a retransmission costs no state.
    pub(crate) fn issue(&self, issued: u64, realm: &str, context: &[&[u8]]) -> String {
        let mut salting = self.salting.clone();
        for part in context {
            salting.write_usize(part.len());
            salting.write(part);
        }
        let salt = salting.finish().to_be_bytes();
        let mut plain = [0u8; PLAIN];
        let time = issued.min(LATEST).to_be_bytes();
        let source = time.iter().skip(2).chain(salt.iter());
        for (place, byte) in plain.iter_mut().zip(source) {
            *place = *byte;
        }
        let proof = self.proof(&plain, realm).finalize().into_bytes();
        let mut digits = [0u8; TOTAL * 2];
        let bytes = plain.iter().chain(proof.iter().take(PROOF));
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&hex_pair(*byte));
        }
        String::from_utf8(digits.to_vec()).unwrap_or_default()
    }

    /// Tells whether `nonce` was made by [`issue`](Self::issue) for `realm`, in constant time.
    pub(crate) fn recognize(&self, nonce: &str, realm: &str) -> Origin {
        let Some(bytes) = decode(nonce) else {
            return Origin::Foreign;
        };
        let (plain, proof) = bytes.split_at(PLAIN);
        if self
            .proof(plain, realm)
            .verify_truncated_left(proof)
            .is_err()
        {
            return Origin::Foreign;
        }
        Origin::Ours {
            issued: plain.iter().take(6).fold(0, fold_byte),
            tag: proof.iter().take(8).fold(0, fold_byte),
        }
    }

    fn proof(&self, plain: &[u8], realm: &str) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        mac.update(b"nonce");
        mac.update(plain);
        mac.update(realm.as_bytes());
        mac
    }
}

const PLAIN: usize = 12;
const PROOF: usize = 12;
const TOTAL: usize = PLAIN + PROOF;
const LATEST: u64 = (1 << 48) - 1;

fn fold_byte(number: u64, byte: &u8) -> u64 {
    (number << 8) | u64::from(*byte)
}

/// Reads the lower-case digits that [`Nonces::issue`] prints; a nonce in capitals is not ours.
fn decode(text: &str) -> Option<[u8; TOTAL]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != TOTAL * 2 {
        return None;
    }
    let mut bytes = [0u8; TOTAL];
    for (place, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else {
            return None;
        };
        *place = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUED: u64 = 1_800_000_000_123;

    fn nonces(key: u8) -> Nonces {
        Nonces::new(&[key; 32])
    }

    #[test]
    fn a_nonce_tells_when_it_was_issued_to_every_node_with_the_key() {
        let nonce = nonces(1).issue(ISSUED, "r", &[b"a"]);
        let Origin::Ours { issued, .. } = nonces(1).recognize(&nonce, "r") else {
            panic!("{nonce} is ours");
        };
        assert_eq!(issued, ISSUED);
    }

    #[test]
    fn another_key_realm_or_digit_makes_it_foreign() {
        let nonce = nonces(1).issue(ISSUED, "r", &[b"a"]);
        assert_eq!(nonces(2).recognize(&nonce, "r"), Origin::Foreign);
        assert_eq!(nonces(1).recognize(&nonce, "s"), Origin::Foreign);
        for place in 0..nonce.len() {
            let mut changed = nonce.clone().into_bytes();
            changed[place] = if changed[place] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert_eq!(
                nonces(1).recognize(&changed, "r"),
                Origin::Foreign,
                "{place}"
            );
        }
        for text in ["", "00", &nonce.to_uppercase(), &nonce[1..], "é"] {
            assert_eq!(nonces(1).recognize(text, "r"), Origin::Foreign, "{text}");
        }
    }

    #[test]
    fn requests_of_the_same_millisecond_get_different_nonces() {
        let nonces = nonces(1);
        let one = nonces.issue(ISSUED, "r", &[b"ab", b"c"]);
        assert_ne!(one, nonces.issue(ISSUED, "r", &[b"a", b"bc"]));
        assert_eq!(one, nonces.issue(ISSUED, "r", &[b"ab", b"c"]));
    }
}
