//! How far a value is read, for those who read it in one go and give up on whatever is unusual.

use crate::classes::{self, HOST, OTHER, QUOTED, TABLE, TOKEN, VALUE};

/// A value of less than 64 KiB, of which `rest` is still to be read.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    value: &'a [u8],
    pub(crate) rest: &'a [u8],
}

/// Bytes of a value; none where it is empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Piece {
    pub(crate) at: u16,
    pub(crate) len: u16,
}

impl Piece {
    pub(crate) const NONE: Piece = Piece { at: 0, len: 0 };

    #[inline]
    pub(crate) fn of(self, value: &[u8]) -> &[u8] {
        let at = usize::from(self.at);
        value
            .get(at..at + usize::from(self.len))
            .unwrap_or_default()
    }

    #[inline]
    pub(crate) fn some(self, value: &[u8]) -> Option<&[u8]> {
        (self.len > 0).then(|| self.of(value))
    }
}

// Inlined wherever they are used, so that they keep what they know in registers.
impl<'a> Cursor<'a> {
    #[inline(always)]
    pub(crate) fn new(value: &'a [u8]) -> Option<Cursor<'a>> {
        let rest = value;
        (value.len() < usize::from(u16::MAX)).then_some(Cursor { value, rest })
    }

    #[inline(always)]
    pub(crate) fn at(&self) -> u16 {
        (self.value.len() - self.rest.len()) as u16
    }

    /// What was read.
    pub(crate) fn past(&self) -> &'a [u8] {
        let len = self.value.len() - self.rest.len();
        self.value.get(..len).unwrap_or_default()
    }

    /// The length of what was read since `rest` was `start`.
    #[inline(always)]
    pub(crate) fn since(&self, start: &[u8]) -> u16 {
        (start.len() - self.rest.len()) as u16
    }

    #[inline(always)]
    pub(crate) fn is_next(&self, byte: u8) -> bool {
        self.rest.first() == Some(&byte)
    }

    /// Reads past a byte, if it is the next.
    #[inline(always)]
    pub(crate) fn skips(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    #[inline(always)]
    pub(crate) fn byte(&mut self, byte: u8) -> Option<()> {
        self.skips(byte).then_some(())
    }

    #[inline(always)]
    pub(crate) fn text(&mut self, text: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(text)?;
        Some(())
    }

    /// Reads past a run of that class; gives its length.
    #[inline(always)]
    pub(crate) fn run(&mut self, class: u8) -> Option<u16> {
        self.run_in(&TABLE, class)
    }

    #[inline(always)]
    pub(crate) fn run_in(&mut self, table: &[u8; 256], class: u8) -> Option<u16> {
        let len = classes::run_in(table, self.rest, class);
        self.rest = self.rest.get(len..)?;
        Some(len as u16)
    }

    /// A run of at least one byte.
    #[inline(always)]
    pub(crate) fn some(&mut self, class: u8) -> Option<u16> {
        match self.run(class) {
            Some(0) => None,
            len => len,
        }
    }

    /// A host that is a name or an IPv4 address.
    #[inline(always)]
    pub(crate) fn host(&mut self) -> Option<u16> {
        if self.is_next(b'.') {
            return None;
        }
        self.some(HOST)
    }

    /// The port, if there is one; `None` where it is malformed.
    #[inline(always)]
    pub(crate) fn port(&mut self) -> Option<Option<u16>> {
        if !self.skips(b':') {
            return Some(None);
        }
        let (count, port) = classes::leading_decimal(self.rest);
        self.rest = self.rest.get(count..)?;
        u16::try_from(port?).ok().map(Some)
    }

    /// A quoted string without escapes, if one begins here.
    #[inline(always)]
    pub(crate) fn quoted(&mut self) -> Option<()> {
        self.byte(b'"')?;
        self.run_in(&OTHER, QUOTED)?;
        self.byte(b'"')
    }

    /// All parameters; gives the value of the first that has the name `wanted` and shows `see` all others. `start` is
    /// how that one begins: its name in lower case and the equals sign.
    #[inline(always)]
    pub(crate) fn params(
        &mut self,
        start: &[u8],
        wanted: &[u8],
        mut see: impl FnMut(&'a [u8], Piece),
    ) -> Option<Piece> {
        let mut found = None;
        while self.skips(b';') {
            if found.is_none()
                && let Some(rest) = self.rest.strip_prefix(start)
            {
                self.rest = rest;
                found = Some(self.param_value()?);
                continue;
            }
            let name = self.rest;
            let name = name.get(..usize::from(self.some(TOKEN)?))?;
            let value = match self.skips(b'=') {
                true => self.param_value()?,
                false => Piece::NONE,
            };
            match found {
                None if name.eq_ignore_ascii_case(wanted) => found = Some(value),
                _ => see(name, value),
            }
        }
        Some(found.unwrap_or(Piece::NONE))
    }

    #[inline(always)]
    fn param_value(&mut self) -> Option<Piece> {
        let (at, start) = (self.at(), self.rest);
        if self.is_next(b'"') {
            self.quoted()?;
        } else if self.run_in(&OTHER, VALUE)? == 0 {
            return None;
        }
        let len = self.since(start);
        Some(Piece { at, len })
    }
}

/// Whether a name is that one, which is mostly written in lower case.
#[inline(always)]
pub(crate) fn is_called(name: &[u8], lower: &[u8]) -> bool {
    name == lower || name.eq_ignore_ascii_case(lower)
}
