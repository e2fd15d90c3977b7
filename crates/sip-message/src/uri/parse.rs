//! Where the parts of a URI are (RFC 3261 §19.1.1 and §25.1, RFC 3966 §3).

use super::{HostPort, Scheme, UriError, host_port};
use crate::classes::{self, PASSWORD, URI_HEADER, URI_PARAM, USER};
use crate::cursor::Cursor;
use crate::scan;

/// A piece of the text that may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

/// The places of a URI's parts in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(super) scheme: Scheme,
    pub(super) scheme_end: u32,
    pub(super) user: Span,
    pub(super) password: Span,
    pub(super) host_start: u32,
    pub(super) host_end: u32,
    pub(super) port: Option<u16>,
    /// Without the leading `;`.
    pub(super) params: Span,
    /// Without the `?`.
    pub(super) headers: Span,
    /// Where parameters begin, or would.
    tail: u32,
}

/// A SIP or SIPS URI without password and headers, packed: lengths and places in its text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PackedUri {
    user_len: Option<u16>,
    host_len: u16,
    port: Option<u16>,
    /// Where parameters begin, or would.
    tail: u16,
    secure: bool,
}

/// The most parameters, and the most headers, of a URI. Comparing two URIs takes the product of their numbers; a dozen
/// is the most that is seen in practice.
const MAX_PAIRS: usize = 100;

impl Span {
    const NONE: Span = Span {
        start: u32::MAX,
        end: 0,
    };

    #[inline]
    pub(super) fn of<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(self.start as usize..self.end as usize)
    }

    #[inline]
    pub(super) fn is_some(&self) -> bool {
        *self != Span::NONE
    }
}

impl PackedUri {
    pub(crate) const NONE: PackedUri = PackedUri {
        user_len: None,
        host_len: 0,
        port: None,
        tail: 0,
        secure: false,
    };

    /// Reads a URI, as nearly everybody writes them, up to what ends it; gives also its length.
    #[inline(always)]
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Option<(PackedUri, u16)> {
        let start = cursor.rest;
        let mut uri = PackedUri::read_host(cursor)?;
        uri.tail = cursor.since(start);
        let mut count = 0;
        while cursor.skips(b';') {
            cursor.some(URI_PARAM)?;
            count += 1;
            if count == MAX_PAIRS {
                return None;
            }
            if cursor.skips(b'=') {
                cursor.run(URI_PARAM)?;
            }
        }
        if !matches!(cursor.rest, [] | [b'>', ..]) {
            return None;
        }
        Some((uri, uri.checked(cursor, start)))
    }

    /// Reads a URI that stands without angle brackets, which has no parameters then (RFC 3261 §20.10); what follows it is
    /// the caller's to judge.
    #[inline(always)]
    pub(crate) fn read_bare(cursor: &mut Cursor<'_>) -> Option<(PackedUri, u16)> {
        let start = cursor.rest;
        let mut uri = PackedUri::read_host(cursor)?;
        uri.tail = cursor.since(start);
        let text = start.get(..usize::from(uri.tail))?;
        // In a user they end it too.
        if text.iter().any(|byte| matches!(byte, b';' | b',' | b'?')) {
            return None;
        }
        Some((uri, uri.checked(cursor, start)))
    }

    /// Reads what stands before the parameters.
    #[inline(always)]
    fn read_host(cursor: &mut Cursor<'_>) -> Option<PackedUri> {
        let secure = match cursor.rest {
            [b's', b'i', b'p', b':', rest @ ..] => {
                cursor.rest = rest;
                false
            }
            [b's', b'i', b'p', b's', b':', rest @ ..] => {
                cursor.rest = rest;
                true
            }
            _ => return None,
        };
        let user = cursor.rest;
        let user_len = match cursor.run(USER)? {
            len if len > 0 && cursor.skips(b'@') => Some(len),
            _ => {
                cursor.rest = user;
                None
            }
        };
        Some(PackedUri {
            user_len,
            host_len: cursor.host()?,
            port: cursor.port()?,
            tail: 0,
            secure,
        })
    }

    /// The length of the URI that began with `start`; debug builds parse it again.
    #[inline(always)]
    fn checked(&self, cursor: &Cursor<'_>, start: &[u8]) -> u16 {
        let len = cursor.since(start);
        debug_assert_eq!(
            start.get(..usize::from(len)).map(Parts::parse),
            Some(Ok(Parts::unpack(self, usize::from(len))))
        );
        len
    }
}

impl Parts {
    pub(super) fn params_start(&self) -> u32 {
        self.tail
    }

    /// Takes UTF-8 apart.
    #[inline]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Parts, UriError> {
        // Offsets are 32 bits wide; a URI of 4 GiB is none.
        if u32::try_from(bytes.len()).is_err() {
            return Err(UriError::new("too long", 0));
        }
        match bytes {
            [b's' | b'S', b'i' | b'I', b'p' | b'P', b':', ..] => return sip(bytes, Scheme::Sip, 3),
            [b's' | b'S', b'i' | b'I', b'p' | b'P', b's' | b'S', b':', ..] => {
                return sip(bytes, Scheme::Sips, 4);
            }
            _ => {}
        }
        let Some(colon) = scan::find(b':', bytes) else {
            return Err(UriError::new("no scheme", 0));
        };
        let name = bytes.get(..colon).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"tel") {
            return tel(bytes, colon);
        }
        check_scheme(name)?;
        opaque(bytes, colon)
    }

    #[inline(always)]
    pub(super) fn unpack(packed: &PackedUri, len: usize) -> Parts {
        let (scheme, colon) = match packed.secure {
            false => (Scheme::Sip, 3),
            true => (Scheme::Sips, 4),
        };
        let (user, host_start) = match packed.user_len.map(u32::from) {
            None => (Span::NONE, colon + 1),
            Some(len) => {
                let (start, end) = (colon + 1, colon + 1 + len);
                (Span { start, end }, end + 1)
            }
        };
        let (tail, end) = (u32::from(packed.tail), len as u32);
        Parts {
            scheme,
            scheme_end: colon,
            user,
            password: Span::NONE,
            host_start,
            host_end: host_start + u32::from(packed.host_len),
            port: packed.port,
            params: match tail < end {
                true => Span {
                    start: tail + 1,
                    end,
                },
                false => Span::NONE,
            },
            headers: Span::NONE,
            tail,
        }
    }

    fn new(scheme: Scheme, colon: usize, end: usize) -> Parts {
        Parts {
            scheme,
            scheme_end: colon as u32,
            user: Span::NONE,
            password: Span::NONE,
            host_start: colon as u32 + 1,
            host_end: end as u32,
            port: None,
            params: Span::NONE,
            headers: Span::NONE,
            tail: end as u32,
        }
    }
}

/// `sip:[user[:password]@]host[:port][;params][?headers]`
#[inline]
fn sip(bytes: &[u8], scheme: Scheme, colon: usize) -> Result<Parts, UriError> {
    let mut parts = Parts::new(scheme, colon, bytes.len());
    let mut at = colon + 1;
    // No part but the user information may hold an unescaped `@`, and it holds none itself.
    let user_end = run(bytes, at, USER);
    if let Some(length) = scan::near(b'@', rest(bytes, user_end)) {
        let end = user_end + length;
        parts.user = span(at, user_end);
        if user_end == at && matches!(bytes.get(at), Some(b':' | b'@')) {
            return Err(UriError::new("empty user", at));
        }
        if user_end < end {
            if bytes.get(user_end) != Some(&b':') {
                return Err(UriError::new("character not allowed in user", user_end));
            }
            parts.password = span(user_end + 1, end);
            check(
                bytes,
                user_end + 1,
                end,
                PASSWORD,
                "character not allowed in password",
            )?;
        }
        at = end + 1;
    }
    let HostPort {
        host_len,
        port,
        len,
    } = host_port(rest(bytes, at))
        .map_err(|error| UriError::new(error.reason, at + error.offset))?;
    parts.host_start = at as u32;
    parts.host_end = (at + host_len) as u32;
    parts.port = port;
    at += len;
    parts.tail = at as u32;
    if bytes.get(at) == Some(&b';') {
        let end = check_params(bytes, at + 1)?;
        parts.params = span(at + 1, end);
        at = end;
    }
    match bytes.get(at) {
        None => Ok(parts),
        Some(b'?') => {
            parts.headers = span(at + 1, bytes.len());
            check_headers(bytes, at + 1)?;
            Ok(parts)
        }
        Some(_) => Err(UriError::new("character not allowed after the host", at)),
    }
}

/// `tel:number[;params]`
fn tel(bytes: &[u8], colon: usize) -> Result<Parts, UriError> {
    let mut parts = Parts::new(Scheme::Tel, colon, bytes.len());
    let start = colon + 1;
    let end = scan::find(b';', rest(bytes, start)).map_or(bytes.len(), |length| start + length);
    let number = bytes.get(start..end).unwrap_or_default();
    let digits = number.strip_prefix(b"+").unwrap_or(number);
    let allowed = |byte: &u8| byte.is_ascii_hexdigit() || b"*#-.()".contains(byte);
    if let Some(bad) = scan::position(digits, |byte| !allowed(byte)) {
        let at = start + (number.len() - digits.len()) + bad;
        return Err(UriError::new(
            "character not allowed in a telephone number",
            at,
        ));
    }
    if digits.is_empty() {
        return Err(UriError::new("empty telephone number", start));
    }
    parts.host_end = end as u32;
    parts.tail = end as u32;
    if end < bytes.len() {
        parts.params = span(end + 1, bytes.len());
        let end = check_params(bytes, end + 1)?;
        if end < bytes.len() {
            return Err(UriError::new(BAD_PARAMETER, end));
        }
    }
    Ok(parts)
}

/// Any other scheme: all is kept, but a space, a control character or an angle bracket would break what surrounds it.
fn opaque(bytes: &[u8], colon: usize) -> Result<Parts, UriError> {
    let start = colon + 1;
    let bad = |byte: &u8| *byte <= b' ' || *byte == 0x7f || matches!(*byte, b'<' | b'>' | b'"');
    if let Some(at) = scan::position(rest(bytes, start), bad) {
        return Err(UriError::new("character not allowed in a URI", start + at));
    }
    if start == bytes.len() {
        return Err(UriError::new("nothing after the scheme", start));
    }
    Ok(Parts::new(Scheme::Other, colon, bytes.len()))
}

/// `ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )`
fn check_scheme(name: &[u8]) -> Result<(), UriError> {
    if !name.first().is_some_and(u8::is_ascii_alphabetic) {
        return Err(UriError::new("no scheme", 0));
    }
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    match scan::position(name, |byte| !allowed(byte)) {
        Some(at) => Err(UriError::new("character not allowed in a scheme", at)),
        None => Ok(()),
    }
}

/// Where the parameters that begin at `at` end: at a `?` or with the text.
fn check_params(bytes: &[u8], mut at: usize) -> Result<usize, UriError> {
    for _ in 0..MAX_PAIRS {
        let mut end = run(bytes, at, URI_PARAM);
        if end == at && matches!(bytes.get(at), None | Some(b';' | b'=' | b'?')) {
            return Err(UriError::new("empty parameter", at));
        }
        // Values end in the equals signs of base64 where nobody escaped them.
        while bytes.get(end) == Some(&b'=') {
            end = run(bytes, end + 1, URI_PARAM);
        }
        match bytes.get(end) {
            None | Some(b'?') => return Ok(end),
            Some(b';') => at = end + 1,
            Some(_) => return Err(UriError::new(BAD_PARAMETER, end)),
        }
    }
    Err(UriError::new("too many parameters", at))
}

const BAD_PARAMETER: &str = "character not allowed in a parameter";

fn check_headers(bytes: &[u8], mut at: usize) -> Result<(), UriError> {
    let end = bytes.len();
    for _ in 0..MAX_PAIRS {
        let next = scan::find(b'&', rest(bytes, at)).map_or(end, |length| at + length);
        let name_end = scan::find2(b'=', b'&', rest(bytes, at)).map_or(end, |length| at + length);
        if name_end == at || bytes.get(name_end) != Some(&b'=') {
            return Err(UriError::new("header without a name or a value", at));
        }
        check(
            bytes,
            at,
            name_end,
            URI_HEADER,
            "character not allowed in a header",
        )?;
        check(
            bytes,
            name_end + 1,
            next,
            URI_HEADER,
            "character not allowed in a header",
        )?;
        if next == end {
            return Ok(());
        }
        at = next + 1;
    }
    Err(UriError::new("too many headers", at))
}

/// Each byte is of the class, or begins a `%HH`.
fn check(
    bytes: &[u8],
    at: usize,
    end: usize,
    class: u8,
    reason: &'static str,
) -> Result<(), UriError> {
    match run(bytes.get(..end).unwrap_or_default(), at, class) {
        bad if bad < end => Err(UriError::new(reason, bad)),
        _ => Ok(()),
    }
}

/// Where the run ends that begins at `at`, of bytes of the class, of `%HH`, and of what [`is_tolerated`].
#[inline]
fn run(bytes: &[u8], mut at: usize, class: u8) -> usize {
    loop {
        at += classes::run(rest(bytes, at), class);
        match rest(bytes, at) {
            [byte, ..] if classes::is_tolerated(*byte) => at += 1,
            [b'%', one, two, ..] if one.is_ascii_hexdigit() && two.is_ascii_hexdigit() => at += 3,
            _ => return at,
        }
    }
}

fn span(start: usize, end: usize) -> Span {
    Span {
        start: start as u32,
        end: end as u32,
    }
}

fn rest(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}
