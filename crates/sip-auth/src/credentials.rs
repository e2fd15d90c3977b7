//! What a client knows: a name and a password.

use std::fmt;

use crate::challenger::Challenger;

/// A username and a password, for one realm or for whichever realm asks.
///
/// The password is never printed.
///
/// ```
/// # use sipora_auth::Credentials;
/// let credentials = Credentials::new("alice", "secret").for_realm("example.com");
/// assert_eq!(credentials.realm(), Some("example.com"));
/// assert!(!format!("{credentials:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    username: Box<str>,
    password: Box<str>,
    realm: Option<Box<str>>,
    proxies_only: bool,
}

impl Credentials {
    /// Makes credentials that answer any realm.
    pub fn new(username: impl Into<Box<str>>, password: impl Into<Box<str>>) -> Self {
        Credentials {
            username: username.into(),
            password: password.into(),
            realm: None,
            proxies_only: false,
        }
    }

    /// Keeps the credentials for one realm, compared byte by byte.
    #[must_use]
    pub fn for_realm(mut self, realm: impl Into<Box<str>>) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// Keeps the credentials for proxies (407): servers (401) never see them.
    #[must_use]
    pub fn for_proxies(mut self) -> Self {
        self.proxies_only = true;
        self
    }

    /// Gives the username.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Gives the realm that these credentials are kept for.
    pub fn realm(&self) -> Option<&str> {
        self.realm.as_deref()
    }

    /// Tells how well these credentials fit who asks; `None`: not at all.
    pub(crate) fn fitness(&self, challenger: Challenger, realm: &str) -> Option<u8> {
        let kept = self.realm.as_deref();
        if kept.is_some_and(|kept| kept != realm)
            || (self.proxies_only && challenger != Challenger::Proxy)
        {
            return None;
        }
        Some(u8::from(kept.is_some()) * 2 + u8::from(self.proxies_only))
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("realm", &self.realm)
            .field("proxies_only", &self.proxies_only)
            .finish_non_exhaustive()
    }
}
