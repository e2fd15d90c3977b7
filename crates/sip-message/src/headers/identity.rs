//! Who somebody is, and who may know: P-Asserted-Identity, P-Preferred-Identity (RFC 3325 §9), Privacy (RFC 3323 §4.2),
//! Reply-To (RFC 3261 §20.31).

use std::fmt;

use super::{Headers, NameAddr};
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::scan;

/// One wish of Privacy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Privacy<'a> {
    /// `header`: hide what the header fields give away (RFC 3323).
    Header,
    /// `session`: hide the session description (RFC 3323).
    Session,
    /// `user`: the user agent's own functions are asked of a service (RFC 3323).
    User,
    /// `none`: no privacy, whatever the user's profile says (RFC 3323).
    None,
    /// `critical`: refuse the request rather than send it without (RFC 3323).
    Critical,
    /// `id`: keep the asserted identity inside the trust domain (RFC 3325).
    Id,
    /// `history`: hide History-Info (RFC 7044).
    History,
    /// Any other word.
    Other(&'a str),
}

impl<'a> Privacy<'a> {
    /// The word.
    pub fn as_str(&self) -> &'a str {
        match self {
            Privacy::Other(word) => word,
            known => WORDS
                .iter()
                .find(|(_, wish)| wish == known)
                .map_or("", |(word, _)| word),
        }
    }

    /// The value of a header field with these wishes.
    ///
    /// ```
    /// use sipora_message::Privacy;
    /// assert_eq!(Privacy::print(&[Privacy::Id, Privacy::Critical]), "id;critical");
    /// ```
    pub fn print(wishes: &[Privacy<'_>]) -> String {
        let words: Vec<&str> = wishes.iter().map(Privacy::as_str).collect();
        words.join(";")
    }

    fn read(word: &'a str) -> Privacy<'a> {
        WORDS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(word))
            .map_or(Privacy::Other(word), |(_, wish)| *wish)
    }
}

impl fmt::Display for Privacy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'a> Headers<'a> {
    /// Who the sender is, says the network: one SIP and one `tel:` URI at most (RFC 3325 §9.1).
    pub fn p_asserted_identity(
        &self,
    ) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.addresses(&HeaderName::PAssertedIdentity)
    }

    /// Who of several the sender wants to be (RFC 3325 §9.2).
    pub fn p_preferred_identity(
        &self,
    ) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.addresses(&HeaderName::PPreferredIdentity)
    }

    /// What is to be hidden. The wishes are separated by semicolons; commas, which some write, are read too.
    pub fn privacy(&self) -> impl Iterator<Item = Privacy<'a>> + use<'a> {
        let name = &const { HeaderName::Privacy };
        self.all(name).flat_map(|value| {
            scan::text(value)
                .unwrap_or("")
                .split([';', ','])
                .map(|word| word.trim_matches([' ', '\t', '\r', '\n']))
                .filter(|word| !word.is_empty())
                .map(Privacy::read)
        })
    }

    /// Where to answer to (RFC 3261 §20.31).
    pub fn reply_to(&self) -> Result<Option<NameAddr<'a>>, HeaderError> {
        self.optional_address(HeaderName::ReplyTo)
    }
}

const WORDS: [(&str, Privacy<'static>); 7] = [
    ("header", Privacy::Header),
    ("session", Privacy::Session),
    ("user", Privacy::User),
    ("none", Privacy::None),
    ("critical", Privacy::Critical),
    ("id", Privacy::Id),
    ("history", Privacy::History),
];
