//! The header fields that every message is asked for, packed into the index when it is made.
//!
//! `read` knows how nearly everybody writes them, and gives up on anything else: white space where it is unusual,
//! escapes, passwords, IPv6. What it reads, it reads as the parsers of [`Via`],
//! [`NameAddr`] and [`ContactRef`] do: they stand behind `is_what_is_parsed`, which debug builds ask of each value.
//! All begin at the start of a value, and stop where they understand no more; what follows is the caller's to judge.

use super::contact::{self, ContactRef, Q};
use super::{NameAddr, Via};
use crate::classes::{OTHER, TOKEN, WORDS};
use crate::cursor::{Cursor, Piece};
use crate::params::Params;
use crate::scan;
use crate::uri::{PackedUri, UriRef};

/// A Via: offsets from the start of its value, but for its version, which is 2.0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PackedVia {
    raw_len: u16,
    transport_len: u16,
    host_at: u16,
    host_len: u16,
    port: Option<u16>,
    params_at: u16,
    branch: Piece,
}

/// An address: offsets from the start of its value, which ends with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PackedAddress {
    display_len: u16,
    uri_at: u16,
    uri_len: u16,
    uri: PackedUri,
    tag: Piece,
}

/// A contact, with which its value ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PackedContact {
    address: PackedAddress,
    q: Option<Q>,
    expires: Option<u32>,
}

impl PackedVia {
    pub(crate) const NONE: PackedVia = PackedVia {
        raw_len: 0,
        transport_len: 0,
        host_at: 0,
        host_len: 0,
        port: None,
        params_at: 0,
        branch: Piece::NONE,
    };

    #[inline(always)]
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Option<PackedVia> {
        cursor.text(b"SIP/2.0/")?;
        let transport_len = cursor.some(TOKEN)?;
        cursor.byte(b' ')?;
        let host_at = cursor.at();
        let host_len = cursor.host()?;
        let port = cursor.port()?;
        let params_at = cursor.at();
        let branch = cursor.params(b"branch=", b"branch", |_, _| {})?;
        Some(PackedVia {
            raw_len: cursor.at(),
            transport_len,
            host_at,
            host_len,
            port,
            params_at,
            branch,
        })
    }

    /// Whether it is the Via that is parsed at the start of `text`.
    pub(crate) fn is_what_is_parsed(&self, text: &[u8]) -> bool {
        let value = text.get(..usize::from(self.raw_len)).unwrap_or_default();
        Via::read(value).is_ok_and(|(_, via)| via.is_same(&self.open(value)))
    }

    #[inline(always)]
    pub(super) fn open<'a>(&self, value: &'a [u8]) -> Via<'a> {
        let piece = |at, len| Piece { at, len }.of(value);
        let params_len = self.raw_len.saturating_sub(self.params_at);
        Via {
            raw: piece(0, self.raw_len),
            version: piece(4, 3),
            transport: piece(8, self.transport_len),
            host: piece(self.host_at, self.host_len),
            port: self.port,
            params: Params::new(piece(self.params_at, params_len)),
            branch: self.branch.some(value),
        }
    }
}

impl PackedAddress {
    pub(crate) const NONE: PackedAddress = PackedAddress {
        display_len: 0,
        uri_at: 0,
        uri_len: 0,
        uri: PackedUri::NONE,
        tag: Piece::NONE,
    };

    #[inline(always)]
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Option<PackedAddress> {
        PackedAddress::read_seen(cursor, |_, _| {})
    }

    /// Notes the tag that was put behind it.
    #[inline]
    pub(crate) fn set_tag(&mut self, tag: Piece) {
        self.tag = tag;
    }

    /// Whether it is the address that is parsed of `value`.
    pub(crate) fn is_what_is_parsed(&self, value: &[u8]) -> bool {
        NameAddr::read(value)
            .is_ok_and(|(rest, address)| rest.is_empty() && address.is_same(&self.open(value)))
    }

    #[inline(always)]
    fn read_seen<'a>(
        cursor: &mut Cursor<'a>,
        see: impl FnMut(&'a [u8], Piece),
    ) -> Option<PackedAddress> {
        let (display_len, uri_at, uri, uri_len);
        if cursor.rest.starts_with(b"sip:") || cursor.rest.starts_with(b"sips:") {
            // At the start of the value, where in brackets none is.
            (display_len, uri_at) = (0, 0);
            (uri, uri_len) = PackedUri::read_bare(cursor)?;
        } else {
            display_len = display(cursor)?;
            cursor.byte(b'<')?;
            uri_at = cursor.at();
            (uri, uri_len) = PackedUri::read(cursor)?;
            cursor.byte(b'>')?;
        }
        let tag = cursor.params(b"tag=", b"tag", see)?;
        Some(PackedAddress {
            display_len,
            uri_at,
            uri_len,
            uri,
            tag,
        })
    }

    #[inline(always)]
    pub(super) fn open<'a>(&self, value: &'a [u8]) -> NameAddr<'a> {
        let uri = Piece {
            at: self.uri_at,
            len: self.uri_len,
        };
        let display = Piece {
            at: 0,
            len: self.display_len,
        };
        // Behind the URI, and its bracket where it has them.
        let bracket = usize::from(self.uri_at > 0);
        let params_at = usize::from(self.uri_at) + usize::from(self.uri_len) + bracket;
        NameAddr {
            raw: value,
            display: display.some(value),
            uri: UriRef::unpack(uri.of(value), &self.uri),
            params: Params::new(value.get(params_at..).unwrap_or_default()),
            tag: self.tag.some(value),
        }
    }
}

impl PackedContact {
    pub(crate) const NONE: PackedContact = PackedContact {
        address: PackedAddress::NONE,
        q: None,
        expires: None,
    };

    #[inline(always)]
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Option<PackedContact> {
        let mut q = Some(None);
        let mut expires = None;
        let value = cursor.rest;
        let address = PackedAddress::read_seen(cursor, |name, found| {
            contact::see(name, found.of(value), &mut q, &mut expires);
        })?;
        Some(PackedContact {
            address,
            q: q?,
            expires,
        })
    }

    /// Whether it is the contact that is parsed of `value`.
    pub(crate) fn is_what_is_parsed(&self, value: &[u8]) -> bool {
        ContactRef::read(value).is_ok_and(|(rest, contact)| {
            rest.is_empty() && contact.is_ok_and(|contact| contact.is_same(&self.open(value)))
        })
    }

    #[inline(always)]
    pub(super) fn open<'a>(&self, value: &'a [u8]) -> ContactRef<'a> {
        ContactRef {
            address: self.address.open(value),
            q: self.q,
            expires: self.expires,
        }
    }
}

/// Reads the display name and the white space behind it: quoted and without escapes, or words; gives its length.
#[inline(always)]
fn display(cursor: &mut Cursor<'_>) -> Option<u16> {
    let start = cursor.rest;
    match start.first()? {
        b'<' => return Some(0),
        // Values begin without white space.
        b' ' => return None,
        b'"' => cursor.quoted()?,
        _ => drop(cursor.run_in(&OTHER, WORDS)?),
    }
    let mut display = start.get(..usize::from(cursor.since(start)))?;
    while let [behind @ .., b' '] = display {
        display = behind;
        scan::visit(1);
    }
    while cursor.skips(b' ') {
        scan::visit(1);
    }
    Some(display.len() as u16)
}
