//! Names of header fields.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::classes::is_token;
use crate::scan;

/// The id of a header field without a name of its own here.
pub(crate) const OTHER: u8 = u8::MAX;

macro_rules! header_names {
    ($($variant:ident $name:literal $($compact:literal)?, $doc:literal;)*) => {
        /// The name of a header field. Comparison ignores case, and a compact form equals its long form
        /// (RFC 3261 §7.3.1 and §7.3.3).
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub enum HeaderName {
            $(#[doc = concat!("`", $name, "`", $(" (`", $compact, "`)",)? ", ", $doc, ".")]
            $variant,)*
            /// Any other name, as it was written.
            Other(Box<str>),
        }

        impl HeaderName {
            /// The canonical text, in its long form.
            pub fn as_str(&self) -> &str {
                match self {
                    $(HeaderName::$variant => $name,)*
                    HeaderName::Other(name) => name,
                }
            }

            pub(crate) const fn known_id(&self) -> u8 {
                match self {
                    $(HeaderName::$variant => Known::$variant as u8,)*
                    HeaderName::Other(_) => OTHER,
                }
            }

            pub(crate) fn from_id(id: u8) -> Option<HeaderName> {
                KNOWN.get(usize::from(id)).cloned()
            }
        }

        /// The known names, for ids that are constants.
        #[derive(Clone, Copy)]
        #[repr(u8)]
        pub(crate) enum Known { $($variant),* }

        /// How many names are known.
        pub(crate) const COUNT: usize = [$(Known::$variant),*].len();

        /// Every known name; its place is its id.
        static KNOWN: &[HeaderName] = &[$(HeaderName::$variant),*];

        /// Long and compact forms in lower case, with their ids.
        const NAMES: &[(&[u8], u8)] = &[
            $(($name.as_bytes(), Known::$variant as u8), $(($compact.as_bytes(), Known::$variant as u8),)?)*
        ];
    };
}

header_names! {
    Accept "Accept", "RFC 3261 §20.1";
    AcceptContact "Accept-Contact" "a", "RFC 3841";
    AcceptEncoding "Accept-Encoding", "RFC 3261 §20.2";
    AcceptLanguage "Accept-Language", "RFC 3261 §20.3";
    AlertInfo "Alert-Info", "RFC 3261 §20.4";
    Allow "Allow", "RFC 3261 §20.5";
    AllowEvents "Allow-Events" "u", "RFC 6665";
    AuthenticationInfo "Authentication-Info", "RFC 3261 §20.6";
    Authorization "Authorization", "RFC 3261 §20.7";
    CallId "Call-ID" "i", "RFC 3261 §20.8";
    CallInfo "Call-Info", "RFC 3261 §20.9";
    Contact "Contact" "m", "RFC 3261 §20.10";
    ContentDisposition "Content-Disposition", "RFC 3261 §20.11";
    ContentEncoding "Content-Encoding" "e", "RFC 3261 §20.12";
    ContentLanguage "Content-Language", "RFC 3261 §20.13";
    ContentLength "Content-Length" "l", "RFC 3261 §20.14";
    ContentType "Content-Type" "c", "RFC 3261 §20.15";
    CSeq "CSeq", "RFC 3261 §20.16";
    Date "Date", "RFC 3261 §20.17";
    ErrorInfo "Error-Info", "RFC 3261 §20.18";
    Event "Event" "o", "RFC 6665";
    Expires "Expires", "RFC 3261 §20.19";
    FlowTimer "Flow-Timer", "RFC 5626";
    From "From" "f", "RFC 3261 §20.20";
    HistoryInfo "History-Info", "RFC 7044";
    Identity "Identity" "y", "RFC 8224";
    InReplyTo "In-Reply-To", "RFC 3261 §20.21";
    Join "Join", "RFC 3911";
    MaxForwards "Max-Forwards", "RFC 3261 §20.22";
    MimeVersion "MIME-Version", "RFC 3261 §20.24";
    MinExpires "Min-Expires", "RFC 3261 §20.23";
    MinSe "Min-SE", "RFC 4028";
    Organization "Organization", "RFC 3261 §20.25";
    PAssertedIdentity "P-Asserted-Identity", "RFC 3325";
    PPreferredIdentity "P-Preferred-Identity", "RFC 3325";
    Path "Path", "RFC 3327";
    Priority "Priority", "RFC 3261 §20.26";
    Privacy "Privacy", "RFC 3323";
    ProxyAuthenticate "Proxy-Authenticate", "RFC 3261 §20.27";
    ProxyAuthenticationInfo "Proxy-Authentication-Info", "RFC 7615";
    ProxyAuthorization "Proxy-Authorization", "RFC 3261 §20.28";
    ProxyRequire "Proxy-Require", "RFC 3261 §20.29";
    RAck "RAck", "RFC 3262";
    Reason "Reason", "RFC 3326";
    RecordRoute "Record-Route", "RFC 3261 §20.30";
    ReferTo "Refer-To" "r", "RFC 3515";
    ReferredBy "Referred-By" "b", "RFC 3892";
    RejectContact "Reject-Contact" "j", "RFC 3841";
    Replaces "Replaces", "RFC 3891";
    ReplyTo "Reply-To", "RFC 3261 §20.31";
    RequestDisposition "Request-Disposition" "d", "RFC 3841";
    Require "Require", "RFC 3261 §20.32";
    RetryAfter "Retry-After", "RFC 3261 §20.33";
    Route "Route", "RFC 3261 §20.34";
    RSeq "RSeq", "RFC 3262";
    Server "Server", "RFC 3261 §20.35";
    ServiceRoute "Service-Route", "RFC 3608";
    SessionExpires "Session-Expires" "x", "RFC 4028";
    SessionId "Session-ID", "RFC 7989";
    SipEtag "SIP-ETag", "RFC 3903";
    SipIfMatch "SIP-If-Match", "RFC 3903";
    Subject "Subject" "s", "RFC 3261 §20.36";
    SubscriptionState "Subscription-State", "RFC 6665";
    Supported "Supported" "k", "RFC 3261 §20.37";
    TargetDialog "Target-Dialog", "RFC 4538";
    Timestamp "Timestamp", "RFC 3261 §20.38";
    To "To" "t", "RFC 3261 §20.39";
    Unsupported "Unsupported", "RFC 3261 §20.40";
    UserAgent "User-Agent", "RFC 3261 §20.41";
    Via "Via" "v", "RFC 3261 §20.42";
    Warning "Warning", "RFC 3261 §20.43";
    WwwAuthenticate "WWW-Authenticate", "RFC 3261 §20.44";
}

impl HeaderName {
    /// Reads a name in any case, long or compact; `None` when it is no token.
    pub fn parse(name: &str) -> Option<HeaderName> {
        let name = HeaderName::from(name);
        name.is_token().then_some(name)
    }

    pub(crate) fn is_token(&self) -> bool {
        let bytes = self.as_str().as_bytes();
        !bytes.is_empty() && bytes.iter().all(|byte| is_token(*byte))
    }

    /// The id under which the index files this name.
    pub(crate) fn id(&self) -> u8 {
        match self {
            HeaderName::Other(name) => id_of(name.as_bytes()),
            known => known.known_id(),
        }
    }
}

impl From<&str> for HeaderName {
    /// Reads a name in any case, long or compact. What is no token is kept as it is, and refused by the builders.
    fn from(name: &str) -> HeaderName {
        HeaderName::from_id(id_of(name.as_bytes()))
            .unwrap_or_else(|| HeaderName::Other(name.into()))
    }
}

impl From<&HeaderName> for HeaderName {
    fn from(name: &HeaderName) -> HeaderName {
        name.clone()
    }
}

impl PartialEq for HeaderName {
    fn eq(&self, other: &HeaderName) -> bool {
        match (self.id(), other.id()) {
            (OTHER, OTHER) => self.as_str().eq_ignore_ascii_case(other.as_str()),
            (one, two) => one == two,
        }
    }
}

impl Eq for HeaderName {}

impl Hash for HeaderName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let id = self.id();
        state.write_u8(id);
        if id != OTHER {
            return;
        }
        for byte in self.as_str().bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id of a name as written: one probe, as a rule, into a table made at compile time.
#[inline]
pub(crate) fn id_of(name: &[u8]) -> u8 {
    let (Some(first), Some(last)) = (name.first(), name.last()) else {
        return OTHER;
    };
    let mut slot = hash(name.len(), *first, *last);
    loop {
        let entry = SLOTS[slot];
        let Some((candidate, id)) = NAMES.get(usize::from(entry)) else {
            return OTHER;
        };
        // Mostly names are spelled as their RFC has them, and that is cheaper to find out.
        if *candidate == name || candidate.eq_ignore_ascii_case(name) {
            return *id;
        }
        slot = (slot + 1) & (SLOT_COUNT - 1);
    }
}

/// How long names are that [`short_id`] finds.
pub(crate) const SHORT_NAMES: usize = 15;

/// The length and the id of the name that `line` begins with, if it is a known one of up to [`SHORT_NAMES`] bytes, with its colon
/// right behind it. The same as [`id_of`] says, but without a loop.
#[inline]
pub(crate) fn short_id(line: &[u8]) -> Option<(usize, u8)> {
    let (low, rest) = line.split_first_chunk()?;
    let low = u64::from_le_bytes(*low);
    let (length, low, high) = match scan::first_in(low, b':') {
        Some(length) => (length, low & !(u64::MAX << (8 * length)), 0),
        None => {
            let high = u64::from_le_bytes(*rest.first_chunk()?);
            let length = scan::first_in(high, b':')?;
            (8 + length, low, high & !(u64::MAX << (8 * length)))
        }
    };
    scan::visit(length);
    let name = &SHORT[short_slot(low, high)];
    let is_name = low | name.fold.0 == name.text.0
        && high | name.fold.1 == name.text.1
        && length == usize::from(name.len);
    is_name.then_some((length, name.id))
}

/// A name of up to 15 bytes in lower case, and what makes lower case of its letters and changes nothing else.
#[derive(Clone, Copy)]
struct Short {
    text: (u64, u64),
    fold: (u64, u64),
    len: u8,
    id: u8,
}

/// Each short name in a slot of its own, which [`MULTIPLIER`] sees to. The others are equal to no name.
static SHORT: [Short; SLOT_COUNT] = {
    let free = Short {
        text: (0, 0),
        fold: (u64::MAX, u64::MAX),
        len: 0,
        id: OTHER,
    };
    let mut all = [free; SLOT_COUNT];
    let mut at = 0;
    while at < NAMES.len() {
        let (name, id) = NAMES[at];
        if name.len() <= SHORT_NAMES {
            let name = short(name, id);
            let slot = short_slot(name.text.0, name.text.1);
            assert!(
                all[slot].id == OTHER,
                "two names in one slot: find another multiplier"
            );
            all[slot] = name;
        }
        at += 1;
    }
    all
};

/// Found by trying: with it no two names share a slot.
const MULTIPLIER: u64 = 0x718f_e4da_6e05_e3ed;

/// The slot of a name as written, of which the first eight bytes and the next eight are given.
#[inline]
const fn short_slot(low: u64, high: u64) -> usize {
    const FOLD: u64 = u64::MAX / 255 * 0x20;
    let key = (low | FOLD) ^ (high | FOLD).rotate_left(9);
    (key.wrapping_mul(MULTIPLIER) >> (64 - SLOT_COUNT.ilog2())) as usize
}

const fn short(name: &[u8], id: u8) -> Short {
    let mut text = [0; 2];
    let mut fold = [0; 2];
    let mut at = 0;
    while at < name.len() {
        let shift = 8 * (at % 8);
        text[at / 8] |= (name[at].to_ascii_lowercase() as u64) << shift;
        if name[at].is_ascii_alphabetic() {
            fold[at / 8] |= 0x20 << shift;
        }
        at += 1;
    }
    Short {
        text: (text[0], text[1]),
        fold: (fold[0], fold[1]),
        len: name.len() as u8,
        id,
    }
}

/// The length of the longest known name.
pub(crate) const LONGEST: usize = {
    let mut longest = 0;
    let mut at = 0;
    while at < NAMES.len() {
        if NAMES[at].0.len() > longest {
            longest = NAMES[at].0.len();
        }
        at += 1;
    }
    longest
};

const SLOT_COUNT: usize = 512;

/// Places in `NAMES`; `u8::MAX` marks a free slot.
static SLOTS: [u8; SLOT_COUNT] = slots();

const fn hash(length: usize, first: u8, last: u8) -> usize {
    let first = (first | 0x20) as usize;
    let last = (last | 0x20) as usize;
    (length.wrapping_mul(151) ^ first.wrapping_mul(37) ^ last.wrapping_mul(11)) & (SLOT_COUNT - 1)
}

const fn slots() -> [u8; SLOT_COUNT] {
    let mut slots = [u8::MAX; SLOT_COUNT];
    let mut at = 0;
    while at < NAMES.len() {
        let name = NAMES[at].0;
        let mut slot = hash(name.len(), name[0], name[name.len() - 1]);
        while slots[slot] != u8::MAX {
            slot = (slot + 1) & (SLOT_COUNT - 1);
        }
        slots[slot] = at as u8;
        at += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_compact_form() {
        for (text, id) in NAMES {
            let text = std::str::from_utf8(text).unwrap();
            assert_eq!(id_of(text.as_bytes()), *id, "{text}");
            assert_eq!(id_of(text.to_ascii_uppercase().as_bytes()), *id, "{text}");
            assert_eq!(HeaderName::from(text).known_id(), *id);
        }
        assert!(NAMES.len() < usize::from(u8::MAX));
    }

    #[test]
    fn the_short_way_finds_the_same_names() {
        let short = |line: &str| short_id(line.as_bytes());
        for (text, id) in NAMES {
            let text = std::str::from_utf8(text).unwrap();
            let found = (text.len() < 16).then_some((text.len(), *id));
            assert_eq!(short(&format!("{text}: some value")), found, "{text}");
            for line in [text.to_ascii_uppercase(), text.to_ascii_lowercase()] {
                assert_eq!(short(&format!("{line}:             ")), found, "{line}");
            }
            // A byte that only looks like the right one once bit 5 is set, or that is another.
            for at in 0..text.len() {
                for other in 0..=u8::MAX {
                    let mut name = text.as_bytes().to_vec();
                    name[at] = other;
                    let expected = match id_of(&name) {
                        OTHER => None,
                        id => (name.len() < 16).then_some((name.len(), id)),
                    };
                    name.extend_from_slice(b":               ");
                    if other != b':' {
                        assert_eq!(short_id(&name), expected, "{text} with {other} at {at}");
                    }
                }
            }
        }
        assert_eq!(short("Via : SIP/2.0/UDP"), None);
        assert_eq!(short(":               "), None);
        assert_eq!(short("Via:"), None);
        assert_eq!(short("Content-Lengthy:"), None);
        assert_eq!(short("no colon in sight"), None);
    }

    #[test]
    fn unknown_names_compare_without_case_and_keep_their_text() {
        assert_eq!(HeaderName::from("x-foo"), HeaderName::from("X-FOO"));
        assert_ne!(HeaderName::from("x-foo"), HeaderName::Via);
        assert_eq!(HeaderName::Other("VIA".into()), HeaderName::Via);
        assert_eq!(HeaderName::from("X-Foo").as_str(), "X-Foo");
        assert_eq!(
            HeaderName::parse("C%6Fntact").unwrap().as_str(),
            "C%6Fntact"
        );
        assert!(HeaderName::parse("a b").is_none());
        assert!(HeaderName::parse("").is_none());
    }
}
