//! The pieces that header values are made of (RFC 3261 §25.1), as nom parsers over bytes.
//!
//! A value is what the index cut out: folds are still in it, and count as linear white space.

use nom::branch::alt;
use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::{opt, recognize};
use nom::error::{Error, ErrorKind};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use crate::classes::{is_lws, is_token};
use crate::scan;

/// What a parser of this module gives: the rest and a value.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T>;

/// `SWS`: any white space, folds included, or none.
pub(crate) fn lws(input: &[u8]) -> Parsed<'_, &[u8]> {
    take_while(is_lws)(input)
}

pub(crate) fn token(input: &[u8]) -> Parsed<'_, &[u8]> {
    take_while1(is_token)(input)
}

/// A quoted string, quotes included. Quoted pairs may hold anything but CR and LF.
pub(crate) fn quoted_string(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (mut rest, _) = char('"')(input)?;
    loop {
        let Some(at) = scan::find2(b'"', b'\\', rest) else {
            return fail(input, ErrorKind::Char);
        };
        let skip = if rest.get(at) == Some(&b'"') { 1 } else { 2 };
        let Some(after) = rest.get(at + skip..) else {
            return fail(input, ErrorKind::Char);
        };
        rest = after;
        if skip == 1 {
            let length = input.len() - rest.len();
            return Ok((rest, input.get(..length).unwrap_or_default()));
        }
    }
}

/// A separator with white space around it, as `SEMI`, `COMMA`, `EQUAL`, `SLASH` are defined.
pub(crate) fn separator(which: char) -> impl Fn(&[u8]) -> Parsed<'_, char> {
    move |input| delimited(lws, char(which), lws).parse(input)
}

/// `generic-param` without its semicolon: name and value as written.
///
/// Values are read more liberally than `token / host / quoted-string`: any run without separators of the next level
/// passes, since implementations write `/`, `@` or `:` there.
pub(crate) fn param(input: &[u8]) -> Parsed<'_, (&[u8], Option<&[u8]>)> {
    let (rest, name) = token(input)?;
    // The short way: no white space around the equals sign, which is how everybody writes it.
    match rest.first() {
        Some(b'=') => {}
        Some(b' ' | b'\t' | b'\r') => {
            let value = opt(preceded(separator('='), param_value));
            return value.map(|value| (name, value)).parse(rest);
        }
        _ => return Ok((rest, (name, None))),
    }
    let (rest, value) = preceded(separator('='), param_value).parse(rest)?;
    Ok((rest, (name, Some(value))))
}

fn param_value(input: &[u8]) -> Parsed<'_, &[u8]> {
    if input.first() == Some(&b'"') {
        return quoted_string(input);
    }
    take_while1(is_value)(input)
}

fn is_value(byte: u8) -> bool {
    scan::visit(1);
    byte > b' ' && byte != 0x7f && !matches!(byte, b';' | b',' | b'"' | b'<' | b'>')
}

/// `*( SEMI generic-param )`: all of it, as one slice that [`Params`](crate::Params) can walk again.
pub(crate) fn params(input: &[u8]) -> Parsed<'_, &[u8]> {
    let mut rest = input;
    loop {
        let (after, _) = lws(rest)?;
        if after.first() != Some(&b';') {
            let length = input.len() - rest.len();
            return Ok((after, input.get(..length).unwrap_or_default()));
        }
        (rest, _) = preceded(separator(';'), param).parse(after)?;
    }
}

/// The display name of a `name-addr`, as written: a quoted string, or words. Between words RFC 3261 has tokens only;
/// anything that cannot begin the next part passes, because unquoted UTF-8, dots and brackets are common.
pub(crate) fn display_name(input: &[u8]) -> Parsed<'_, &[u8]> {
    alt((quoted_string, recognize(take_while(is_display)))).parse(input)
}

fn is_display(byte: u8) -> bool {
    scan::visit(1);
    (byte >= b' ' && byte != 0x7f && !matches!(byte, b'<' | b'>' | b'"' | b':' | b';' | b','))
        || is_lws(byte)
}

pub(crate) fn fail<T>(input: &[u8], kind: ErrorKind) -> Parsed<'_, T> {
    Err(nom::Err::Error(Error::new(input, kind)))
}

/// The text inside a quoted string, its quoted pairs resolved; any other text as it is. Folds become single spaces.
pub(crate) fn unquote(raw: &[u8]) -> std::borrow::Cow<'_, str> {
    scan::visit(raw.len());
    let inner = match raw {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    };
    if scan::find2(b'\\', b'\r', inner).is_none() {
        return String::from_utf8_lossy(inner);
    }
    let quoted = inner.len() != raw.len();
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if quoted => out.extend(bytes.next()),
            b'\r' => {
                while bytes.next_if(|next| is_lws(*next)).is_some() {}
                out.push(b' ');
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_strings_end_at_the_first_quote_that_is_not_escaped() {
        assert_eq!(
            quoted_string(br#""a\"b" rest"#),
            Ok((&b" rest"[..], &br#""a\"b""#[..]))
        );
        assert!(quoted_string(br#""a\"#).is_err());
        assert!(quoted_string(br#""a\""#).is_err());
        assert_eq!(unquote(br#""J \\\"""#), r#"J \""#);
    }

    #[test]
    fn params_may_have_white_space_wherever_the_grammar_allows_it() {
        let (rest, raw) = params(b" ;\r\n  tag = 98asjd8 ; lr;x=\"a;b\" , next").unwrap();
        assert_eq!(rest, b", next");
        assert_eq!(raw, b" ;\r\n  tag = 98asjd8 ; lr;x=\"a;b\"");
        assert!(params(b";;").is_err());
        assert!(params(b";a=").is_err());
    }
}
