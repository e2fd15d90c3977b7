//! Where to find more: Alert-Info, Call-Info, Error-Info (RFC 3261 §20.4, §20.9, §20.18).

use super::{Headers, NameAddr};
use crate::error::HeaderError;
use crate::header_name::HeaderName;

impl<'a> Headers<'a> {
    /// The ring tones that the sender offers. RFC 3261 §20.4 warns of playing what a stranger sends.
    pub fn alert_info(&self) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.addresses(&HeaderName::AlertInfo)
    }

    /// Pictures, cards and pages about the sender; the parameter `purpose` says which.
    pub fn call_info(&self) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.addresses(&HeaderName::CallInfo)
    }

    /// More about the error of a response.
    pub fn error_info(&self) -> impl Iterator<Item = Result<NameAddr<'a>, HeaderError>> + use<'a> {
        self.addresses(&HeaderName::ErrorInfo)
    }
}
