//! Lists of tokens: Require, Supported, Unsupported, Proxy-Require, Allow, Accept (RFC 3261 §20.1, §20.5, §20.29 to
//! §20.40).

use super::{Headers, MediaType};
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::method::Method;
use crate::scan;

impl<'a> Headers<'a> {
    /// The extensions without which the request is not to be processed.
    pub fn require(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.tokens(&HeaderName::Require)
    }

    /// The extensions that the sender understands.
    pub fn supported(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.tokens(&HeaderName::Supported)
    }

    /// The extensions for which the request was refused.
    pub fn unsupported(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.tokens(&HeaderName::Unsupported)
    }

    /// The extensions that proxies have to understand.
    pub fn proxy_require(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.tokens(&HeaderName::ProxyRequire)
    }

    /// Whether an option tag is among [`Headers::supported`]. Tags compare without case (RFC 3261 §7.3.1).
    pub fn supports(&self, tag: &str) -> bool {
        self.supported()
            .any(|found| found.eq_ignore_ascii_case(tag))
    }

    /// The methods that are allowed. What is no token is left out.
    pub fn allow(&self) -> impl Iterator<Item = Method> + use<'a> {
        self.tokens(&HeaderName::Allow)
            .filter_map(|name| Method::from_bytes(name.as_bytes()))
    }

    /// The media ranges of Accept with their parameters.
    pub fn accept(&self) -> impl Iterator<Item = Result<MediaType<'a>, HeaderError>> + use<'a> {
        let headers = *self;
        let name = &const { HeaderName::Accept };
        self.list(name).map(move |value| {
            MediaType::read(value)
                .ok_or_else(|| headers.error(HeaderName::Accept, "malformed", value))
        })
    }

    /// The elements of any comma list of tokens. Elements that are no UTF-8 are left out.
    pub fn tokens<'n>(&self, name: &'n HeaderName) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.list(name).filter_map(|value| scan::text(value))
    }
}
