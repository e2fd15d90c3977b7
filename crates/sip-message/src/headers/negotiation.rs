//! What can be read and how it is to be treated: Accept-Encoding, Accept-Language, Content-Disposition,
//! Content-Encoding, Content-Language, MIME-Version (RFC 3261 §20.2, §20.3, §20.11 to §20.13, §20.24).

use super::contact::Q;
use super::item::Item;
use super::{Headers, address::Refused};
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::params::Params;
use crate::scan;

/// One acceptable encoding or language.
#[derive(Debug, Clone, Copy)]
pub struct AcceptedRef<'a> {
    item: Item<'a>,
    q: Option<Q>,
}

/// What a body or a part of one is for.
#[derive(Debug, Clone, Copy)]
pub struct ContentDispositionRef<'a>(Item<'a>);

impl<'a> AcceptedRef<'a> {
    /// The encoding, the language range, or `*`.
    pub fn value(&self) -> &'a str {
        self.item.value()
    }

    /// The preference; 1 where there is none.
    pub fn q(&self) -> Option<Q> {
        self.q
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.item.params()
    }

    /// The value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.item.as_bytes()
    }

    fn read(value: &'a [u8]) -> Result<AcceptedRef<'a>, Refused<'a>> {
        let item = Item::token(value)?;
        let q = match item.params().find("q") {
            None => None,
            Some(param) => {
                let text = param.raw_value().and_then(scan::text).unwrap_or("");
                Some(
                    text.parse()
                        .map_err(|_| ("a q that is not 0 to 1", value))?,
                )
            }
        };
        Ok(AcceptedRef { item, q })
    }
}

impl<'a> ContentDispositionRef<'a> {
    /// The purpose: `render`, `session`, `icon`, `alert`, `early-session` and so on.
    pub fn kind(&self) -> &'a str {
        self.0.value()
    }

    /// Whether it is the purpose named, in any case.
    pub fn is(&self, kind: &str) -> bool {
        self.kind().eq_ignore_ascii_case(kind)
    }

    /// Whether a receiver that does not understand the body may go on. Without the `handling` parameter it may not
    /// (RFC 3261 §20.11), which a server says with 415.
    pub fn is_optional(&self) -> bool {
        self.params()
            .token("handling")
            .is_some_and(|handling| handling.eq_ignore_ascii_case("optional"))
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

impl<'a> Headers<'a> {
    /// The encodings that the sender reads. An empty field, which stands for `identity`, lists none.
    pub fn accept_encoding(
        &self,
    ) -> impl Iterator<Item = Result<AcceptedRef<'a>, HeaderError>> + use<'a> {
        self.each(&const { HeaderName::AcceptEncoding }, AcceptedRef::read)
    }

    /// The languages that the sender's user reads.
    pub fn accept_language(
        &self,
    ) -> impl Iterator<Item = Result<AcceptedRef<'a>, HeaderError>> + use<'a> {
        self.each(&const { HeaderName::AcceptLanguage }, AcceptedRef::read)
    }

    /// What the body is for. Without the field, `application/sdp` is a `session` and anything else to `render`.
    pub fn content_disposition(&self) -> Result<Option<ContentDispositionRef<'a>>, HeaderError> {
        self.one(HeaderName::ContentDisposition, |value| {
            Item::token(value).map(ContentDispositionRef)
        })
    }

    /// The encodings of the body in the order in which they were applied.
    pub fn content_encoding(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.tokens(&const { HeaderName::ContentEncoding })
    }

    /// The languages of the body.
    pub fn content_language(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.tokens(&const { HeaderName::ContentLanguage })
    }

    /// The version of MIME, as written: `1.0`.
    pub fn mime_version(&self) -> Result<Option<&'a str>, HeaderError> {
        self.one(HeaderName::MimeVersion, |value| {
            let is_number =
                |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let text = scan::text(value).unwrap_or("");
            match text.split_once('.') {
                Some((major, minor)) if is_number(major) && is_number(minor) => Ok(text),
                _ => Err(("not two numbers and a dot", value)),
            }
        })
    }
}
