//! Equality of URIs (RFC 3261 §19.1.4, RFC 3966 §4, RFC 8141 §3).

use super::{Scheme, UriRef, escape};

/// Parameters that never match when only one URI has them, even with their default value. `transport` is among them:
/// "a URI omitting any component with a default value will not match a URI explicitly containing that component".
const NEVER_IGNORED: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

pub(super) fn equivalent(one: UriRef<'_>, two: UriRef<'_>) -> bool {
    // So that a URI equals itself even where it gives a parameter twice, which "MUST NOT appear more than once" (§19.1.1).
    if one.as_str() == two.as_str() {
        return true;
    }
    // "A SIP and SIPS URI are never equivalent."
    if one.scheme() != two.scheme() {
        return false;
    }
    match one.scheme() {
        Scheme::Sip | Scheme::Sips => sip(one, two),
        Scheme::Tel => tel(one, two),
        Scheme::Other => match (one.urn(), two.urn()) {
            (Some(one), Some(two)) => one.equivalent(&two),
            (None, None) => {
                one.scheme_str().eq_ignore_ascii_case(two.scheme_str())
                    && one.opaque() == two.opaque()
            }
            _ => false,
        },
    }
}

fn sip(one: UriRef<'_>, two: UriRef<'_>) -> bool {
    both(one.user(), two.user(), escape::eq)
        && both(one.password(), two.password(), escape::eq)
        && one.host() == two.host()
        && one.port() == two.port()
        && params(one, two)
        && params(two, one)
        && headers(one, two)
        && headers(two, one)
}

/// What both have must match; what only `one` has must be of the kind that is ignored.
fn params(one: UriRef<'_>, two: UriRef<'_>) -> bool {
    one.params().all(|(name, value)| match two.param(name) {
        Some(other) => both(value, other, escape::eq_ignore_case),
        None => !NEVER_IGNORED
            .iter()
            .any(|kept| escape::eq_ignore_case(name, kept)),
    })
}

/// "URI header components are never ignored." Names compare without case, values as they are unescaped.
fn headers(one: UriRef<'_>, two: UriRef<'_>) -> bool {
    let count = |uri: UriRef<'_>, name: &str, value: &str| {
        uri.headers()
            .filter(|(other, text)| escape::eq_ignore_case(name, other) && escape::eq(value, text))
            .count()
    };
    one.headers()
        .all(|(name, value)| count(one, name, value) == count(two, name, value))
}

/// RFC 3966 §4: numbers without their visual separators, parameters in any order, none ignored.
fn tel(one: UriRef<'_>, two: UriRef<'_>) -> bool {
    fn number(uri: UriRef<'_>) -> impl Iterator<Item = u8> + '_ {
        uri.opaque()
            .bytes()
            .filter(|byte| !b"-.()".contains(byte))
            .map(|byte| byte.to_ascii_lowercase())
    }
    fn covers(one: UriRef<'_>, two: UriRef<'_>) -> bool {
        one.params().all(|(name, value)| {
            two.param(name)
                .is_some_and(|other| both(value, other, escape::eq_ignore_case))
        })
    }
    number(one).eq(number(two)) && covers(one, two) && covers(two, one)
}

fn both(one: Option<&str>, two: Option<&str>, same: fn(&str, &str) -> bool) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => same(one, two),
        (None, None) => true,
        _ => false,
    }
}
