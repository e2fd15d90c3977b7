//! Feature tags, as parameters of Contact, Accept-Contact and Reject-Contact (RFC 3840 §9).

use std::borrow::Cow;

use crate::classes::trim;
use crate::params::{Param, Params};
use crate::scan;

/// One feature tag and its value.
///
/// ```
/// use sipora_message::{FeatureValue, Limits, Message};
///
/// let message = Message::parse(&b"OPTIONS sip:a@b SIP/2.0\r\n\
///     Contact: <sip:a@b>;expires=60;audio;methods=\"INVITE,!REFER\"\r\n\r\n"[..], &Limits::default())?;
/// let contact = message.headers().contact()?.unwrap();
/// let methods = contact.feature("methods").unwrap();
/// let value = methods.value();
/// let values: Vec<_> = FeatureValue::list(&value).collect();
/// assert_eq!(values, [FeatureValue::Token { text: "INVITE", negated: false },
///                     FeatureValue::Token { text: "REFER", negated: true }]);
/// assert_eq!(contact.features().count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Feature<'a>(Param<'a>);

/// One of the values of a feature tag, of which any one is enough to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeatureValue<'a> {
    /// `TRUE` or `FALSE`.
    Boolean {
        /// Which.
        value: bool,
        /// Whether `!` stands before it.
        negated: bool,
    },
    /// A token, compared without case.
    Token {
        /// The token.
        text: &'a str,
        /// Whether `!` stands before it.
        negated: bool,
    },
    /// A number or a range of numbers behind `#`, as written: `>=5`, `1:4`.
    Number {
        /// What follows the `#`.
        text: &'a str,
        /// Whether `!` stands before it.
        negated: bool,
    },
    /// A string in angle brackets, compared with case.
    String {
        /// What is in the brackets.
        text: &'a str,
        /// Whether `!` stands before it.
        negated: bool,
    },
}

impl<'a> Feature<'a> {
    /// The name as written: a base tag such as `audio`, or any other behind a `+`.
    pub fn name(&self) -> &'a str {
        self.0.name()
    }

    /// The value without its quotes. A tag without a value is `TRUE`.
    pub fn value(&self) -> Cow<'a, str> {
        self.0.value().unwrap_or(Cow::Borrowed("TRUE"))
    }

    pub(super) fn of(params: Params<'a>) -> impl Iterator<Item = Feature<'a>> + use<'a> {
        params.iter().map(Feature).filter(Feature::is_feature)
    }

    /// RFC 3840 §9: the base tags stand alone, all others begin with a plus sign.
    fn is_feature(&self) -> bool {
        let name = self.name();
        name.starts_with('+') || BASE_TAGS.iter().any(|tag| name.eq_ignore_ascii_case(tag))
    }
}

impl<'a> FeatureValue<'a> {
    /// Takes [`Feature::value`] apart at its commas.
    pub fn list(value: &'a str) -> impl Iterator<Item = FeatureValue<'a>> + use<'a> {
        let mut rest = value;
        std::iter::from_fn(move || {
            loop {
                if rest.is_empty() {
                    return None;
                }
                let (text, after) = cut(rest);
                rest = after;
                if !text.is_empty() {
                    return Some(FeatureValue::read(text));
                }
            }
        })
    }

    fn read(text: &'a str) -> FeatureValue<'a> {
        let (negated, text) = match text.strip_prefix('!') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let inside = text
            .strip_prefix('<')
            .and_then(|text| text.strip_suffix('>'));
        if let Some(text) = inside {
            return FeatureValue::String { text, negated };
        }
        if let Some(text) = text.strip_prefix('#') {
            return FeatureValue::Number { text, negated };
        }
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        if is("TRUE") || is("FALSE") {
            let value = is("TRUE");
            return FeatureValue::Boolean { value, negated };
        }
        FeatureValue::Token { text, negated }
    }
}

/// The text up to the first comma outside angle brackets, and what follows it.
fn cut(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let from = match bytes.iter().take(2).position(|byte| *byte == b'<') {
        Some(_) => scan::find(b'>', bytes).unwrap_or(bytes.len()),
        None => 0,
    };
    let comma = scan::find(b',', bytes.get(from..).unwrap_or_default());
    let end = comma.map_or(bytes.len(), |at| from + at);
    let piece = trim(bytes.get(..end).unwrap_or_default());
    (
        std::str::from_utf8(piece).unwrap_or(""),
        text.get(end + 1..).unwrap_or(""),
    )
}

const BASE_TAGS: [&str; 20] = [
    "audio",
    "automata",
    "class",
    "duplex",
    "data",
    "control",
    "mobility",
    "description",
    "events",
    "priority",
    "methods",
    "schemes",
    "application",
    "video",
    "language",
    "type",
    "isfocus",
    "actor",
    "text",
    "extensions",
];
