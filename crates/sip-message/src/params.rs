//! Parameters of header values.

use std::borrow::Cow;

use crate::classes::is_lws;
use crate::grammar::{param, unquote};
use crate::scan;

/// The parameters behind a header value (`;name=value`), in order. They were checked when the value was parsed.
#[derive(Clone, Copy, Default)]
pub struct Params<'a> {
    raw: &'a [u8],
}

/// One parameter.
#[derive(Debug, Clone, Copy)]
pub struct Param<'a> {
    /// A token, so ASCII.
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Params<'a> {
    pub(crate) fn new(raw: &'a [u8]) -> Params<'a> {
        Params { raw }
    }

    /// The parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = Param<'a>> + use<'a> {
        let mut rest = self.raw;
        std::iter::from_fn(move || {
            let start = rest
                .iter()
                .position(|byte| *byte != b';' && !is_lws(*byte))?;
            let (after, (name, value)) = param(rest.get(start..)?).ok()?;
            rest = after;
            Some(Param { name, value })
        })
    }

    /// The first parameter of that name, in any case.
    pub fn find(&self, name: &str) -> Option<Param<'a>> {
        self.iter().find(|param| param.is(name))
    }

    /// The value of a parameter as text, quotes and escapes resolved; `Some("")` where it has none.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.find(name)
            .map(|param| param.value().unwrap_or_default())
    }

    /// The value of a parameter that is a token: `None` when it is absent, without a value, or no UTF-8.
    pub fn token(&self, name: &str) -> Option<&'a str> {
        self.find(name).and_then(|param| scan::text(param.value?))
    }

    /// Whether the parameter is there.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The bytes as written, from the first semicolon on.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }
}

impl std::fmt::Debug for Params<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> Param<'a> {
    /// The name as written.
    pub fn name(&self) -> &'a str {
        scan::text(self.name).unwrap_or("")
    }

    /// Whether the parameter has that name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The parameter as written, but for white space around the equals sign: its name and what follows that sign.
    pub fn as_bytes(&self) -> (&'a [u8], Option<&'a [u8]>) {
        (self.name, self.value)
    }

    /// The value as text, quotes and escapes resolved.
    pub fn value(&self) -> Option<Cow<'a, str>> {
        self.value.map(unquote)
    }

    /// The value as written, quotes included.
    pub fn raw_value(&self) -> Option<&'a [u8]> {
        self.value
    }
}
