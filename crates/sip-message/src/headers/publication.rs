//! SIP-ETag and SIP-If-Match (RFC 3903 §11.3).

use super::Headers;
use crate::error::HeaderError;
use crate::header_name::HeaderName;

impl<'a> Headers<'a> {
    /// The tag that the state agent gave to what was published.
    pub fn sip_etag(&self) -> Result<Option<&'a str>, HeaderError> {
        self.one_token(HeaderName::SipEtag)
    }

    /// The tag of the publication that is refreshed, changed or removed.
    pub fn sip_if_match(&self) -> Result<Option<&'a str>, HeaderError> {
        self.one_token(HeaderName::SipIfMatch)
    }
}
