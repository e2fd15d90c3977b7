//! The header fields that every message is asked for, packed into the index when it is made.
//!
//! `read` knows how nearly everybody writes them, and gives up on anything else: white space where it is unusual,
//! escapes, passwords, IPv6, an address without angle brackets. What it reads, it reads as the parsers of [`Via`],
//! [`NameAddr`] and [`ContactRef`] do; debug builds hold each value against theirs.

use super::contact::{self, ContactRef, Q};
use super::{NameAddr, Via};
use crate::classes::{self, HOST, TOKEN};
use crate::params::Params;
use crate::scan;
use crate::uri::{PackedUri, UriRef};

/// A Via at the start of a value: offsets from there, but for its version, which is 2.0.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PackedVia {
    raw_len: u16,
    transport_len: u16,
    host_at: u16,
    host_len: u16,
    port: Option<u16>,
    params_at: u16,
    branch: Piece,
}

/// An address that is all of a value: offsets from its start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PackedAddress {
    display_len: u16,
    uri_at: u16,
    uri_len: u16,
    uri: PackedUri,
    tag: Piece,
}

/// A contact that is all of a value.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PackedContact {
    address: PackedAddress,
    q: Option<Q>,
    expires: Option<u32>,
}

/// Bytes of a value; none where it is empty.
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    at: u16,
    len: u16,
}

impl PackedVia {
    pub(crate) fn read(value: &[u8]) -> Option<PackedVia> {
        let mut cursor = Cursor::new(value)?;
        cursor.text(b"SIP/2.0/")?;
        let transport_len = cursor.some(TOKEN)?;
        cursor.byte(b' ')?;
        let host_at = cursor.at();
        let host_len = cursor.host()?;
        let port = cursor.port()?;
        let params_at = cursor.at();
        let mut branch = None;
        cursor.params(|name, value| {
            if branch.is_none() && name.eq_ignore_ascii_case(b"branch") {
                branch = Some(value);
            }
        })?;
        if !matches!(cursor.rest.first(), None | Some(b',')) {
            return None;
        }
        let via = PackedVia {
            raw_len: cursor.at(),
            transport_len,
            host_at,
            host_len,
            port,
            params_at,
            branch: branch.unwrap_or_default(),
        };
        debug_assert!(Via::read(value).is_ok_and(|(_, read)| read.is_same(&via.open(value))));
        Some(via)
    }

    #[inline]
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
    pub(crate) fn read(value: &[u8]) -> Option<PackedAddress> {
        let address = PackedAddress::read_seen(value, |_, _| {})?;
        debug_assert!(
            NameAddr::read(value).is_ok_and(|(rest, read)| {
                rest.is_empty() && read.is_same(&address.open(value))
            })
        );
        Some(address)
    }

    #[inline]
    fn read_seen(value: &[u8], mut see: impl FnMut(&[u8], Piece)) -> Option<PackedAddress> {
        let mut cursor = Cursor::new(value)?;
        let display_len = cursor.display()?;
        cursor.byte(b'<')?;
        let uri_at = cursor.at();
        let (uri, uri_len) = PackedUri::read(cursor.rest)?;
        cursor.skip(uri_len);
        cursor.byte(b'>')?;
        let mut tag = None;
        cursor.params(|name, value| {
            see(name, value);
            if tag.is_none() && name.eq_ignore_ascii_case(b"tag") {
                tag = Some(value);
            }
        })?;
        cursor.rest.is_empty().then_some(PackedAddress {
            display_len,
            uri_at,
            uri_len: uri_len as u16,
            uri,
            tag: tag.unwrap_or_default(),
        })
    }

    #[inline]
    pub(super) fn open<'a>(&self, value: &'a [u8]) -> NameAddr<'a> {
        let uri = Piece {
            at: self.uri_at,
            len: self.uri_len,
        };
        let display = Piece {
            at: 0,
            len: self.display_len,
        };
        // Behind the URI and its bracket.
        let params_at = usize::from(self.uri_at) + usize::from(self.uri_len) + 1;
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
    pub(crate) fn read(value: &[u8]) -> Option<PackedContact> {
        let mut q = Some(None);
        let mut expires = None;
        let address = PackedAddress::read_seen(value, |name, found| {
            contact::see(name, found.of(value), &mut q, &mut expires);
        })?;
        let contact = PackedContact {
            address,
            q: q?,
            expires,
        };
        debug_assert!(ContactRef::read(value).is_ok_and(|(rest, read)| {
            rest.is_empty() && read.is_ok_and(|read| read.is_same(&contact.open(value)))
        }));
        Some(contact)
    }

    #[inline]
    pub(super) fn open<'a>(&self, value: &'a [u8]) -> ContactRef<'a> {
        ContactRef {
            address: self.address.open(value),
            q: self.q,
            expires: self.expires,
        }
    }
}

impl Piece {
    #[inline]
    fn of(self, value: &[u8]) -> &[u8] {
        let at = usize::from(self.at);
        value
            .get(at..at + usize::from(self.len))
            .unwrap_or_default()
    }

    #[inline]
    fn some(self, value: &[u8]) -> Option<&[u8]> {
        (self.len > 0).then(|| self.of(value))
    }
}

/// A value of less than 64 KiB, and how far it is read.
struct Cursor<'a> {
    len: usize,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    fn new(value: &'a [u8]) -> Option<Cursor<'a>> {
        (value.len() < usize::from(u16::MAX)).then_some(Cursor {
            len: value.len(),
            rest: value,
        })
    }

    #[inline]
    fn at(&self) -> u16 {
        (self.len - self.rest.len()) as u16
    }

    #[inline]
    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    #[inline]
    fn byte(&mut self, byte: u8) -> Option<()> {
        self.text(&[byte])
    }

    #[inline]
    fn text(&mut self, text: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    #[inline]
    fn run(&mut self, class: u8) -> u16 {
        let count = classes::run(self.rest, class);
        self.skip(count);
        count as u16
    }

    /// A run of at least one byte.
    #[inline]
    fn some(&mut self, class: u8) -> Option<u16> {
        Some(self.run(class)).filter(|count| *count > 0)
    }

    #[inline]
    fn host(&mut self) -> Option<u16> {
        if self.rest.first() == Some(&b'.') {
            return None;
        }
        self.some(HOST)
    }

    /// The port, if there is one; `None` where it is malformed.
    #[inline]
    fn port(&mut self) -> Option<Option<u16>> {
        if self.rest.first() != Some(&b':') {
            return Some(None);
        }
        self.skip(1);
        let (count, port) = classes::leading_decimal(self.rest);
        self.skip(count);
        u16::try_from(port?).ok().map(Some)
    }

    /// The display name and the white space behind it: quoted and without escapes, or words.
    #[inline]
    fn display(&mut self) -> Option<u16> {
        let start = self.rest;
        let len = match start.first()? {
            b'<' => return Some(0),
            b'"' => {
                let len = classes::quoted_run(start.get(1..)?) + 2;
                (start.get(len - 1) == Some(&b'"')).then_some(len)?
            }
            _ => classes::words_run(start),
        };
        let (mut display, rest) = start.split_at_checked(len)?;
        self.rest = rest;
        while let [behind @ .., b' '] = display {
            display = behind;
        }
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
        scan::visit(len - display.len());
        Some(display.len() as u16)
    }

    /// All parameters; `see` is given each name and value.
    #[inline]
    fn params(&mut self, mut see: impl FnMut(&'a [u8], Piece)) -> Option<()> {
        while let [b';', rest @ ..] = self.rest {
            self.rest = rest;
            let count = self.some(TOKEN)?;
            let name = rest.get(..usize::from(count)).unwrap_or_default();
            let [b'=', rest @ ..] = self.rest else {
                see(name, Piece::default());
                continue;
            };
            self.rest = rest;
            let at = self.at();
            let len = match rest.first()? {
                b'"' => {
                    let len = classes::quoted_run(rest.get(1..)?) + 2;
                    (rest.get(len - 1) == Some(&b'"')).then_some(len)?
                }
                _ => Some(classes::value_run(rest)).filter(|len| *len > 0)?,
            };
            self.skip(len);
            let len = len as u16;
            see(name, Piece { at, len });
        }
        Some(())
    }
}
