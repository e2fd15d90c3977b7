//! What a server knows about its users.

use std::fmt;

use crate::algorithm::{Algorithm, Hash};
use crate::calculation::{Hex, base_secret};
use crate::error::AuthError;

/// A user's secret: the password, or hashes that stand for it. Never printed.
///
/// A hash is H(username ":" realm ":" password) in hexadecimal, one for each hash function that the server offers. Whoever
/// reads it can log in to that realm, so it needs the same care as the password.
///
/// ```
/// use sipora_auth::{Hash, Secret};
///
/// let text = Secret::hash_of(Hash::Md5, "Mufasa", "testrealm@host.com", "Circle Of Life");
/// assert_eq!(text, "939e7578ed9e3c518a452acee763bce9");
/// let secret = Secret::hashed(Hash::Md5, &text)?;
/// # Ok::<(), sipora_auth::AuthError>(())
/// ```
#[derive(Clone)]
pub struct Secret(Kind);

#[derive(Clone)]
enum Kind {
    Password(Box<str>),
    Hashed(Vec<(Hash, Hex)>),
}

impl Secret {
    /// Wraps a password.
    pub fn password(password: impl Into<Box<str>>) -> Self {
        Secret(Kind::Password(password.into()))
    }

    /// Wraps the hexadecimal hash of a user, realm and password.
    ///
    /// # Errors
    ///
    /// [`AuthError::Invalid`] when `digits` has not the length of `hash` or is not hexadecimal.
    pub fn hashed(hash: Hash, digits: &str) -> Result<Self, AuthError> {
        Secret(Kind::Hashed(Vec::new())).and_hashed(hash, digits)
    }

    /// Adds the hash for another function. A password needs none, and stays what it is.
    ///
    /// # Errors
    ///
    /// As [`Secret::hashed`].
    pub fn and_hashed(mut self, hash: Hash, digits: &str) -> Result<Self, AuthError> {
        let digits = Hex::parse(hash, digits).ok_or(AuthError::Invalid {
            parameter: "secret",
        })?;
        if let Kind::Hashed(hashes) = &mut self.0 {
            hashes.retain(|(other, _)| *other != hash);
            hashes.push((hash, digits));
        }
        Ok(self)
    }

    /// Computes the text that [`Secret::hashed`] takes.
    pub fn hash_of(hash: Hash, username: &str, realm: &str, password: &str) -> String {
        base_secret(hash, username, realm, password)
            .as_str()
            .to_owned()
    }

    /// Gives H(username ":" realm ":" password) and whether it is a real user's.
    ///
    /// A missing secret costs the same work, so that time tells nobody which users exist.
    pub(crate) fn base(
        secret: Option<&Secret>,
        hash: Hash,
        username: &str,
        realm: &str,
    ) -> (Hex, bool) {
        let password = match secret {
            Some(Secret(Kind::Password(password))) => password,
            _ => "no user has this secret",
        };
        let computed = base_secret(hash, username, realm, password);
        match secret {
            None => (computed, false),
            Some(Secret(Kind::Password(_))) => (computed, true),
            Some(Secret(Kind::Hashed(hashes))) => {
                match hashes.iter().find(|(other, _)| *other == hash) {
                    Some((_, stored)) => (stored.clone(), true),
                    None => (computed, false),
                }
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Password(_) => "password",
            Kind::Hashed(_) => "hashed",
        };
        f.debug_tuple("Secret").field(&kind).finish()
    }
}

/// Finds the secrets of users. A closure `Fn(realm, username) -> Option<Secret>` is one.
pub trait SecretStore {
    /// Gives the secret of a user, or `None` for somebody unknown.
    fn secret(&self, realm: &str, username: &str) -> Option<Secret>;

    /// Overrides, for one user, the algorithms that are accepted; `None` leaves the configured ones.
    ///
    /// Give the same list to [`Ask::algorithms`](crate::Ask::algorithms), or the user is never offered what alone is
    /// accepted.
    fn algorithms(&self, realm: &str, username: &str) -> Option<Vec<Algorithm>> {
        let _ = (realm, username);
        None
    }
}

impl<F: Fn(&str, &str) -> Option<Secret>> SecretStore for F {
    fn secret(&self, realm: &str, username: &str) -> Option<Secret> {
        self(realm, username)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let hash = Secret::hash_of(Hash::Md5, "a", "r", "swordfish");
        let hashed = Secret::hashed(Hash::Md5, &hash).expect("hexadecimal");
        for secret in [Secret::password("swordfish"), hashed] {
            let text = format!("{secret:?}");
            assert!(
                !text.contains("swordfish") && !text.contains(&hash),
                "{text}"
            );
        }
    }

    #[test]
    fn a_hash_of_the_wrong_length_is_refused() {
        assert!(Secret::hashed(Hash::Sha256, "00").is_err());
    }

    #[test]
    fn a_secret_without_the_hash_that_is_asked_for_fits_nothing() {
        let hash = Secret::hash_of(Hash::Md5, "a", "r", "p");
        let secret = Secret::hashed(Hash::Md5, &hash).expect("hexadecimal");
        assert!(Secret::base(Some(&secret), Hash::Md5, "a", "r").1);
        assert!(!Secret::base(Some(&secret), Hash::Sha256, "a", "r").1);
    }
}
