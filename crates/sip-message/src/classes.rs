//! Character classes of RFC 3261 §25.1, one table lookup each.

/// Characters of `token`.
pub(crate) const TOKEN: u8 = 1;
/// SP, HT and the CR LF of a fold.
pub(crate) const LWS: u8 = 2;
/// `unreserved` and `user-unreserved`, without `%`.
pub(crate) const USER: u8 = 4;
/// `unreserved` and the extras of `password`, without `%`.
pub(crate) const PASSWORD: u8 = 8;
/// `paramchar`, without `%`.
pub(crate) const URI_PARAM: u8 = 16;
/// `hnv-unreserved` and `unreserved`, without `%`.
pub(crate) const URI_HEADER: u8 = 32;
/// Letters, digits, `-`, `.` and (for networks that use it) `_`.
pub(crate) const HOST: u8 = 64;
/// `reserved`: never equal to its own escape (RFC 3261 §19.1.4).
pub(crate) const RESERVED: u8 = 128;

pub(crate) static TABLE: [u8; 256] = table();

/// Whether `byte` belongs to one of the classes in `class`.
#[inline]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    crate::scan::visit(1);
    TABLE[byte as usize] & class != 0
}

#[inline]
pub(crate) fn is_token(byte: u8) -> bool {
    is(byte, TOKEN)
}

#[inline]
pub(crate) fn is_lws(byte: u8) -> bool {
    is(byte, LWS)
}

/// How many bytes at the start belong to one of the classes in `class`.
#[inline]
pub(crate) fn run(bytes: &[u8], class: u8) -> usize {
    run_in(&TABLE, bytes, class)
}

/// How many bytes at the start may stand in an unquoted parameter value: all but white space, control characters and
/// what ends it.
#[inline]
pub(crate) fn value_run(bytes: &[u8]) -> usize {
    run_in(&OTHER, bytes, VALUE)
}

/// What RFC 3261 §25.1 wants escaped in a URI but telephones send as it is, `sip:*31#5550123@host` above all: it
/// separates nothing, so it is read, and kept as it was written.
#[inline]
pub(crate) fn is_tolerated(byte: u8) -> bool {
    OTHER[byte as usize] & TOLERATED != 0
}

/// How many bytes at the start have one of the bits in `class`: four bytes a step, which halves the work.
#[inline(always)]
pub(crate) fn run_in(table: &[u8; 256], bytes: &[u8], class: u8) -> usize {
    let of = |byte: u8| table[byte as usize];
    let mut length = 0;
    for [one, two, three, four] in bytes.as_chunks().0 {
        if of(*one) & of(*two) & of(*three) & of(*four) & class == 0 {
            break;
        }
        length += 4;
    }
    while bytes.get(length).is_some_and(|byte| of(*byte) & class != 0) {
        length += 1;
    }
    crate::scan::visit(length + 1);
    length
}

/// What may stand in an unquoted parameter value.
pub(crate) const VALUE: u8 = 1;
/// All but the quote, the backslash and what ends lines.
pub(crate) const QUOTED: u8 = 4;
/// Characters of `token`, and the space.
pub(crate) const WORDS: u8 = 8;
/// See [`is_tolerated`].
const TOLERATED: u8 = 2;

/// Classes that are none of the grammar's.
pub(crate) static OTHER: [u8; 256] = {
    let grammar = table();
    let mut table = mark([0; 256], b"#[]^`{|}\\", TOLERATED);
    let mut byte = 0;
    loop {
        if byte > b' ' && !matches!(byte, 0x7f | b';' | b',' | b'"' | b'<' | b'>') {
            table[byte as usize] |= VALUE;
        }
        if !byte.is_ascii() {
            table[byte as usize] |= TOLERATED;
        }
        if !matches!(byte, b'"' | b'\\' | b'\r' | b'\n') {
            table[byte as usize] |= QUOTED;
        }
        if grammar[byte as usize] & TOKEN != 0 || byte == b' ' {
            table[byte as usize] |= WORDS;
        }
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// Cuts linear white space, folds included, off both ends.
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        if !is_lws(*first) {
            break;
        }
        bytes = rest;
    }
    while let [rest @ .., last] = bytes {
        if !is_lws(*last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// Where `part`, a slice of `whole`, begins in it.
#[inline]
pub(crate) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize)
        .saturating_sub(whole.as_ptr() as usize)
        .min(whole.len())
}

/// Reads a decimal number that must fit; signs, spaces and the empty text are refused, leading zeros are not.
#[inline]
pub(crate) fn decimal(bytes: &[u8]) -> Option<u32> {
    crate::scan::visit(bytes.len());
    if bytes.is_empty() {
        return None;
    }
    let mut value: u32 = 0;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u32::from(digit))?;
    }
    Some(value)
}

/// How many digits stand at the start, and their number if it fits.
#[inline(always)]
pub(crate) fn leading_decimal(bytes: &[u8]) -> (usize, Option<u32>) {
    let mut value: u64 = 0;
    let mut count = 0;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        count += 1;
    }
    crate::scan::visit(count + 1);
    let number = match count {
        0 => None,
        // Nineteen digits fit into 64 bits.
        1..20 => u32::try_from(value).ok(),
        _ => decimal(bytes.get(..count).unwrap_or_default()),
    };
    (count, number)
}

const fn table() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        if byte.is_ascii_alphanumeric() {
            table[index] = TOKEN | USER | PASSWORD | URI_PARAM | URI_HEADER | HOST;
        }
        index += 1;
    }
    let mut table = mark(table, b"-.!%*_+`'~", TOKEN);
    table = mark(table, b" \t\r\n", LWS);
    // mark = "-" / "_" / "." / "!" / "~" / "*" / "'" / "(" / ")"
    table = mark(
        table,
        b"-_.!~*'()",
        USER | PASSWORD | URI_PARAM | URI_HEADER,
    );
    table = mark(table, b"&=+$,;?/", USER);
    table = mark(table, b"&=+$,", PASSWORD);
    table = mark(table, b"[]/:&+$", URI_PARAM);
    table = mark(table, b"[]/?:+$", URI_HEADER);
    table = mark(table, b"-._", HOST);
    mark(table, b";/?:@&=+$,", RESERVED)
}

const fn mark(mut table: [u8; 256], bytes: &[u8], class: u8) -> [u8; 256] {
    let mut index = 0;
    while index < bytes.len() {
        table[bytes[index] as usize] |= class;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_refuses_what_does_not_fit() {
        assert_eq!(decimal(b"0068"), Some(68));
        assert_eq!(decimal(b"4294967295"), Some(u32::MAX));
        assert_eq!(decimal(b"4294967296"), None);
        assert_eq!(decimal(b"36893488147419103232"), None);
        assert_eq!(decimal(b"-1"), None);
        assert_eq!(decimal(b""), None);
        assert_eq!(decimal(b"1 "), None);
    }

    #[test]
    fn trim_cuts_folds_too() {
        assert_eq!(trim(b" \r\n\t a b \r\n "), b"a b");
        assert_eq!(trim(b"\r\n "), b"");
    }
}
