//! Caller preferences: Accept-Contact, Reject-Contact and Request-Disposition (RFC 3841 §9).

use std::fmt;

use super::Headers;
use super::feature::Feature;
use super::item::Item;
use crate::builder::HeaderValue;
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::method::NotAToken;
use crate::params::Params;

/// The features that a contact shall have, or shall not have.
#[derive(Debug, Clone, Copy)]
pub struct ContactPreferenceRef<'a>(Item<'a>);

/// Accept-Contact or Reject-Contact to be printed.
///
/// ```
/// use sipora_message::ContactPreference;
///
/// let mobile = ContactPreference::new().with_feature("mobility", Some("mobile"))?.explicit().require();
/// assert_eq!(mobile.to_string(), r#"*;mobility="mobile";explicit;require"#);
/// # Ok::<(), sipora_message::NotAToken>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContactPreference(HeaderValue);

/// What the caller wants servers to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disposition<'a> {
    /// `proxy`: forward, do not redirect.
    Proxy,
    /// `redirect`: redirect, do not forward.
    Redirect,
    /// `cancel`: cancel the other branches once one has answered.
    Cancel,
    /// `no-cancel`: let them ring.
    NoCancel,
    /// `fork`: forking is welcome.
    Fork,
    /// `no-fork`: one address only.
    NoFork,
    /// `recurse`: follow redirections.
    Recurse,
    /// `no-recurse`: hand redirections to the caller.
    NoRecurse,
    /// `parallel`: all addresses at once.
    Parallel,
    /// `sequential`: one after the other.
    Sequential,
    /// `queue`: wait in a queue.
    Queue,
    /// `no-queue`: be told busy at once.
    NoQueue,
    /// Any other word.
    Other(&'a str),
}

impl<'a> ContactPreferenceRef<'a> {
    /// The features.
    pub fn features(&self) -> impl Iterator<Item = Feature<'a>> + use<'a> {
        Feature::of(self.0.params())
    }

    /// Whether contacts that do not match are not to be used at all (Accept-Contact only).
    pub fn is_required(&self) -> bool {
        self.0.params().contains("require")
    }

    /// Whether contacts that say nothing about a feature do not match (Accept-Contact only).
    pub fn is_explicit(&self) -> bool {
        self.0.params().contains("explicit")
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.0.params()
    }

    /// The value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0.as_bytes()
    }
}

impl ContactPreference {
    /// A preference without features, which matches every contact.
    pub fn new() -> ContactPreference {
        ContactPreference(HeaderValue::from_text("*".into()))
    }

    /// Adds a feature tag: a base tag, or another with its plus sign. `None` is `TRUE`.
    pub fn with_feature(
        mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<ContactPreference, NotAToken> {
        match value {
            // RFC 3840 §9: values stand in quotes, tokens too.
            Some(value) => self.0.push_quoted(name, value)?,
            None => self.0.push_param(name, None)?,
        }
        Ok(self)
    }

    /// Contacts that do not match are not to be used at all.
    pub fn require(mut self) -> ContactPreference {
        // A token of ours is never refused.
        let _ = self.0.push_param("require", None);
        self
    }

    /// Contacts that say nothing about a feature do not match.
    pub fn explicit(mut self) -> ContactPreference {
        let _ = self.0.push_param("explicit", None);
        self
    }
}

impl Default for ContactPreference {
    fn default() -> ContactPreference {
        ContactPreference::new()
    }
}

impl fmt::Display for ContactPreference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a> Disposition<'a> {
    /// The word.
    pub fn as_str(&self) -> &'a str {
        match self {
            Disposition::Other(word) => word,
            known => WORDS
                .iter()
                .find(|(_, disposition)| disposition == known)
                .map_or("", |(word, _)| word),
        }
    }

    fn read(word: &'a str) -> Disposition<'a> {
        WORDS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(word))
            .map_or(Disposition::Other(word), |(_, disposition)| *disposition)
    }
}

impl fmt::Display for Disposition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'a> Headers<'a> {
    /// The features that the caller wants in a contact.
    pub fn accept_contact(
        &self,
    ) -> impl Iterator<Item = Result<ContactPreferenceRef<'a>, HeaderError>> + use<'a> {
        self.each(&const { HeaderName::AcceptContact }, |value| {
            Item::read(value, is_star).map(ContactPreferenceRef)
        })
    }

    /// The features that the caller does not want in a contact.
    pub fn reject_contact(
        &self,
    ) -> impl Iterator<Item = Result<ContactPreferenceRef<'a>, HeaderError>> + use<'a> {
        self.each(&const { HeaderName::RejectContact }, |value| {
            Item::read(value, is_star).map(ContactPreferenceRef)
        })
    }

    /// What the caller wants servers to do with the request.
    pub fn request_disposition(&self) -> impl Iterator<Item = Disposition<'a>> + use<'a> {
        self.tokens(&const { HeaderName::RequestDisposition })
            .map(Disposition::read)
    }
}

fn is_star(byte: u8) -> bool {
    byte == b'*'
}

const WORDS: [(&str, Disposition<'static>); 12] = [
    ("proxy", Disposition::Proxy),
    ("redirect", Disposition::Redirect),
    ("cancel", Disposition::Cancel),
    ("no-cancel", Disposition::NoCancel),
    ("fork", Disposition::Fork),
    ("no-fork", Disposition::NoFork),
    ("recurse", Disposition::Recurse),
    ("no-recurse", Disposition::NoRecurse),
    ("parallel", Disposition::Parallel),
    ("sequential", Disposition::Sequential),
    ("queue", Disposition::Queue),
    ("no-queue", Disposition::NoQueue),
];
