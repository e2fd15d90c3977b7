//! Comma lists (RFC 3261 §7.3.1).

use crate::classes::{is_lws, trim};
use crate::scan;

/// The elements of a comma list: commas in quotes and in angle brackets separate nothing, empty elements are skipped.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        loop {
            let whole = rest?;
            let end = element_len(whole);
            rest = whole.get(end + 1..);
            let element = trim(whole.get(..end).unwrap_or_default());
            if !element.is_empty() {
                return Some(element);
            }
        }
    })
}

/// The first element that is not empty, and what follows its comma from the next such element on.
pub(crate) fn first_element(value: &[u8]) -> (&[u8], &[u8]) {
    let value = without_commas(value);
    let (element, rest) = value
        .split_at_checked(element_len(value))
        .unwrap_or((value, &[]));
    (trim(element), without_commas(rest))
}

fn without_commas(value: &[u8]) -> &[u8] {
    let start = scan::count_while(value, |byte| *byte == b',' || is_lws(*byte));
    value.get(start..).unwrap_or_default()
}

fn element_len(value: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = scan::find3(b',', b'"', b'<', value.get(at..).unwrap_or_default()) {
        at += found;
        let rest = value.get(at + 1..).unwrap_or_default();
        match value.get(at) {
            Some(b',') => return at,
            Some(b'<') => match scan::find(b'>', rest) {
                Some(length) => at += length + 2,
                None => return value.len(),
            },
            _ => match crate::grammar::quoted_string(value.get(at..).unwrap_or_default()) {
                Ok((after, _)) => at = value.len() - after.len(),
                Err(_) => return value.len(),
            },
        }
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_brackets_separate_nothing() {
        let value = br#" "a, \"b" <sip:x,y@h>;p=1 ,, <sip:c@d>,"#;
        let found: Vec<_> = elements(value).collect();
        assert_eq!(found, [&br#""a, \"b" <sip:x,y@h>;p=1"#[..], b"<sip:c@d>"]);
        assert_eq!(elements(b"\"open, <").count(), 1);
        assert_eq!(elements(b"").count(), 0);
        assert_eq!(first_element(b" , a ,, b, "), (&b"a"[..], &b"b, "[..]));
        assert_eq!(first_element(b" a\r\n"), (&b"a"[..], &b""[..]));
        assert_eq!(first_element(b", ,"), (&b""[..], &b""[..]));
    }
}
