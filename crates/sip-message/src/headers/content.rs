//! Content-Type, Content-Length (RFC 3261 §20.14, §20.15).

use std::fmt;

use super::Headers;
use crate::classes::decimal;
use crate::error::HeaderError;
use crate::grammar::{self, separator, token};
use crate::header_name::HeaderName;
use crate::params::Params;
use crate::scan;

/// A media type, or a range of them, with its parameters.
#[derive(Debug, Clone, Copy)]
pub struct MediaType<'a> {
    kind: &'a str,
    subtype: &'a str,
    params: Params<'a>,
}

impl<'a> MediaType<'a> {
    /// The type, `application` of `application/sdp`.
    pub fn kind(&self) -> &'a str {
        self.kind
    }

    /// The subtype, `sdp` of `application/sdp`.
    pub fn subtype(&self) -> &'a str {
        self.subtype
    }

    /// The parameters, `boundary` among them.
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// Whether it is `kind/subtype`, in any case and with any parameters.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.subtype.eq_ignore_ascii_case(subtype)
    }

    /// What a part of a body is that does not say (RFC 2046 §5.1).
    pub(crate) fn text_plain() -> MediaType<'static> {
        MediaType {
            kind: "text",
            subtype: "plain",
            params: Params::default(),
        }
    }

    pub(super) fn read(value: &'a [u8]) -> Option<MediaType<'a>> {
        let (rest, kind) = token(value).ok()?;
        let (rest, _) = separator('/')(rest).ok()?;
        let (rest, subtype) = token(rest).ok()?;
        let (rest, params) = grammar::params(rest).ok()?;
        if !rest.is_empty() {
            return None;
        }
        Some(MediaType {
            kind: scan::text(kind)?,
            subtype: scan::text(subtype)?,
            params: Params::new(params),
        })
    }
}

impl fmt::Display for MediaType<'_> {
    /// The value as written, but for white space around the slash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = String::from_utf8_lossy(self.params.as_bytes());
        write!(f, "{}/{}{params}", self.kind, self.subtype)
    }
}

impl<'a> Headers<'a> {
    /// What the body is.
    pub fn content_type(&self) -> Result<Option<MediaType<'a>>, HeaderError> {
        let Some(value) = self.single(HeaderName::ContentType)? else {
            return Ok(None);
        };
        match MediaType::read(value) {
            Some(media_type) => Ok(Some(media_type)),
            None => Err(self.error(HeaderName::ContentType, "malformed", value)),
        }
    }

    /// The length of the body as the sender gave it; the parser has checked it already.
    pub fn content_length(&self) -> Result<Option<u32>, HeaderError> {
        let Some(value) = self.first(&HeaderName::ContentLength) else {
            return Ok(None);
        };
        match decimal(value) {
            Some(length) => Ok(Some(length)),
            None => Err(self.error(HeaderName::ContentLength, "not a number below 2^32", value)),
        }
    }
}
