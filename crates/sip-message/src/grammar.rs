//! The pieces that header values are made of (RFC 3261 §25.1), as nom parsers over bytes.
//!
//! A value is what the index cut out: folds are still in it, and count as linear white space.

use nom::character::complete::char;
use nom::error::{Error, ErrorKind};
use nom::sequence::delimited;
use nom::{IResult, Parser};

use crate::classes::{TOKEN, is_lws, run, value_run};
use crate::scan;

/// What a parser of this module gives: the rest and a value.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T>;

/// `SWS`: any white space, folds included, or none.
#[inline]
pub(crate) fn lws(input: &[u8]) -> Parsed<'_, &[u8]> {
    let length = scan::count_while(input, |byte| is_lws(*byte));
    Ok(split(input, length))
}

/// What stands behind any white space.
#[inline]
pub(crate) fn skip_lws(mut input: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = input {
        if !is_lws(*first) {
            break;
        }
        input = rest;
    }
    input
}

#[inline]
pub(crate) fn token(input: &[u8]) -> Parsed<'_, &[u8]> {
    match run(input, TOKEN) {
        0 => fail(input, ErrorKind::TakeWhile1),
        length => Ok(split(input, length)),
    }
}

/// The rest behind the first `length` bytes, and those.
#[inline]
fn split(input: &[u8], length: usize) -> (&[u8], &[u8]) {
    let (first, rest) = input.split_at_checked(length).unwrap_or((input, &[]));
    (rest, first)
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
#[inline]
pub(crate) fn param(input: &[u8]) -> Parsed<'_, (&[u8], Option<&[u8]>)> {
    let (rest, name) = token(input)?;
    let value = match rest {
        // The short way: no white space around the equals sign, which is how everybody writes it.
        [b'=', value @ ..] => value,
        [b' ' | b'\t' | b'\r', ..] => return long_param(name, rest),
        _ => return Ok((rest, (name, None))),
    };
    match value_run(value) {
        0 => long_param(name, rest),
        length => {
            let (rest, value) = split(value, length);
            Ok((rest, (name, Some(value))))
        }
    }
}

/// White space around the equals sign, or a quoted string behind it.
fn long_param<'a>(name: &'a [u8], rest: &'a [u8]) -> Parsed<'a, (&'a [u8], Option<&'a [u8]>)> {
    let [b'=', after @ ..] = skip_lws(rest) else {
        return Ok((rest, (name, None)));
    };
    let (rest, value) = match (param_value(skip_lws(after)), rest.first()) {
        (Ok(found), _) => found,
        (Err(error), Some(b'=')) => return Err(error),
        (Err(_), _) => return Ok((rest, (name, None))),
    };
    Ok((rest, (name, Some(value))))
}

fn param_value(input: &[u8]) -> Parsed<'_, &[u8]> {
    if input.first() == Some(&b'"') {
        return quoted_string(input);
    }
    match value_run(input) {
        0 => fail(input, ErrorKind::TakeWhile1),
        length => Ok(split(input, length)),
    }
}

/// `*( SEMI generic-param )`: all of it, as one slice that [`Params`](crate::Params) can walk again.
#[inline]
pub(crate) fn params(input: &[u8]) -> Parsed<'_, &[u8]> {
    params_seen(input, |_, _| {})
}

/// The same; `see` is given each name and value on the way.
#[inline]
pub(crate) fn params_seen<'a>(
    input: &'a [u8],
    mut see: impl FnMut(&'a [u8], Option<&'a [u8]>),
) -> Parsed<'a, &'a [u8]> {
    let mut rest = input;
    loop {
        let after = skip_lws(rest);
        let [b';', after @ ..] = after else {
            let (_, seen) = split(input, input.len() - rest.len());
            return Ok((after, seen));
        };
        let (next, (name, value)) = param(skip_lws(after))?;
        see(name, value);
        rest = next;
    }
}

/// The display name of a `name-addr`, as written: a quoted string, or words. Between words RFC 3261 has tokens only;
/// anything that cannot begin the next part passes, because unquoted UTF-8, dots and brackets are common.
#[inline]
pub(crate) fn display_name(input: &[u8]) -> Parsed<'_, &[u8]> {
    if input.first() == Some(&b'"')
        && let Ok(quoted) = quoted_string(input)
    {
        return Ok(quoted);
    }
    let length = scan::count_while(input, |byte| is_display(*byte));
    Ok(split(input, length))
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
