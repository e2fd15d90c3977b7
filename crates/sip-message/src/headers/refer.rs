//! Refer-To (RFC 3515 §2.1) and Referred-By (RFC 3892 §3).

use super::{Headers, NameAddr};
use crate::error::HeaderError;
use crate::header_name::HeaderName;

impl<'a> Headers<'a> {
    /// Whom to contact. The method is the URI's `method` parameter, and header fields of the new request, Replaces
    /// among them, are the URI's headers: see [`UriRef::header`](crate::UriRef::header).
    ///
    /// "An agent responding to a REFER method MUST return a 400 (Bad Request) if the request contained zero or more
    /// than one Refer-To header field values" (RFC 3515 §2.4.2); two are an error here, none is `None`.
    pub fn refer_to(&self) -> Result<Option<NameAddr<'a>>, HeaderError> {
        self.optional_address(HeaderName::ReferTo)
    }

    /// Who refers; its parameter `cid` names the body part with the token that proves it.
    pub fn referred_by(&self) -> Result<Option<NameAddr<'a>>, HeaderError> {
        self.optional_address(HeaderName::ReferredBy)
    }
}
