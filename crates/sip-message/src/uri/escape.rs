//! `%HH` escapes (RFC 3261 §19.1.2).

use std::borrow::Cow;

use crate::classes::{RESERVED, is};
use crate::scan;

/// Writes `text` with every byte outside `class` escaped.
pub(super) fn encode(text: &str, class: u8, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if is(byte, class) {
            out.push(char::from(byte));
            continue;
        }
        out.push('%');
        out.push(char::from(HEX[usize::from(byte >> 4)]));
        out.push(char::from(HEX[usize::from(byte & 15)]));
    }
}

/// The octets that a text stands for: each `%HH` is read once.
pub(super) fn decode(text: &str) -> impl Iterator<Item = u8> + '_ {
    units(text).map(|unit| unit.byte)
}

pub(super) fn decode_lossy(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes: Vec<u8> = decode(text).collect();
    Cow::Owned(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Whether two texts are the same by RFC 3261 §19.1.4: an escape equals its character unless that is reserved.
pub(super) fn eq(one: &str, two: &str) -> bool {
    units(one).eq(units(two))
}

/// As [`eq`], without case.
pub(super) fn eq_ignore_case(one: &str, two: &str) -> bool {
    let lower = |unit: Unit| Unit {
        byte: unit.byte.to_ascii_lowercase(),
        ..unit
    };
    units(one).map(lower).eq(units(two).map(lower))
}

/// One character, and whether it is a reserved one that was escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Unit {
    byte: u8,
    escaped: bool,
}

fn units(text: &str) -> impl Iterator<Item = Unit> + '_ {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        scan::visit(1);
        let (unit, after) = match rest {
            [] => return None,
            [b'%', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let byte = digit(*high) << 4 | digit(*low);
                let escaped = is(byte, RESERVED);
                (Unit { byte, escaped }, after)
            }
            [byte, after @ ..] => (
                Unit {
                    byte: *byte,
                    escaped: false,
                },
                after,
            ),
        };
        rest = after;
        Some(unit)
    })
}

fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        b'a'..=b'f' => hex - b'a' + 10,
        b'A'..=b'F' => hex - b'A' + 10,
        _ => 0,
    }
}
