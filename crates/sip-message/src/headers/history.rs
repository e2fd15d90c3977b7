//! History-Info (RFC 7044).

use std::borrow::Cow;

use super::{Headers, NameAddr};
use crate::classes::decimal;
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::params::Params;
use crate::scan;
use crate::uri::UriRef;

/// One address that a request was sent to on its way.
#[derive(Debug, Clone, Copy)]
pub struct HistoryInfoRef<'a> {
    address: NameAddr<'a>,
    index: &'a str,
}

/// How an address came to be in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TargetChange<'a> {
    /// `rc`: retargeted to a contact of the user; with the index of the address that it stands for.
    RegisteredContact(&'a str),
    /// `mp`: mapped to another user.
    Mapped(&'a str),
    /// `np`: no change of the target.
    NoChange(&'a str),
}

impl<'a> HistoryInfoRef<'a> {
    /// The address that was tried.
    pub fn uri(&self) -> UriRef<'a> {
        self.address.uri()
    }

    /// The address with display name and parameters.
    pub fn address(&self) -> NameAddr<'a> {
        self.address
    }

    /// The place in the tree of attempts, as written: `1.2.1`.
    pub fn index(&self) -> &'a str {
        self.index
    }

    /// The numbers of the index, outermost first.
    pub fn path(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.index
            .split('.')
            .filter_map(|number| decimal(number.as_bytes()))
    }

    /// How the address came to be here.
    pub fn change(&self) -> Option<TargetChange<'a>> {
        let find = |name| self.params().token(name);
        find("rc")
            .map(TargetChange::RegisteredContact)
            .or_else(|| find("mp").map(TargetChange::Mapped))
            .or_else(|| find("np").map(TargetChange::NoChange))
    }

    /// Why the attempt ended: the Reason in the headers of the URI, unescaped.
    pub fn reason(&self) -> Option<Cow<'a, str>> {
        self.uri().header("Reason")
    }

    /// Whether the entry is not to be shown: the Privacy in the headers of the URI, unescaped.
    pub fn privacy(&self) -> Option<Cow<'a, str>> {
        self.uri().header("Privacy")
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.address.params()
    }

    /// The value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.address.as_bytes()
    }

    fn new(address: NameAddr<'a>) -> Result<HistoryInfoRef<'a>, &'static str> {
        let Some(index) = address.params().token("index") else {
            return Err("no index");
        };
        // index-val = number *( DOT number ), numbers without leading zeros
        let numbers_only = index.split('.').all(|number| {
            scan::visit(number.len());
            decimal(number.as_bytes()).is_some()
        });
        if !numbers_only {
            return Err("an index that is not numbers and dots");
        }
        Ok(HistoryInfoRef { address, index })
    }
}

impl<'a> Headers<'a> {
    /// Where the request has been, oldest first. An entry without an index is an error.
    pub fn history_info(
        &self,
    ) -> impl Iterator<Item = Result<HistoryInfoRef<'a>, HeaderError>> + use<'a> {
        let headers = *self;
        self.addresses(&HeaderName::HistoryInfo)
            .map(move |address| {
                let address = address?;
                HistoryInfoRef::new(address).map_err(|reason| {
                    headers.error(HeaderName::HistoryInfo, reason, address.as_bytes())
                })
            })
    }
}
