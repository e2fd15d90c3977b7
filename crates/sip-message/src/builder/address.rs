//! Addresses to be printed.

use std::fmt::{self, Write};

use crate::classes::is_token;
use crate::uri::UriRef;

/// An address for From, To, Contact or Route: prints as `"Display" <uri>;name=value`.
///
/// ```
/// use sipora_message::{Address, Uri};
///
/// let address = Address::new(&Uri::parse("sip:bell@example.com")?)
///     .with_display("Bell, \"Alexander\"")
///     .with_param("tag", Some("43"));
/// assert_eq!(address.to_string(), r#""Bell, \"Alexander\"" <sip:bell@example.com>;tag=43"#);
/// # Ok::<(), sipora_message::UriError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    text: String,
    params: String,
}

impl Address {
    /// An address without display name and parameters. The URI stands in angle brackets, always: then its parameters
    /// are its own (RFC 3261 §20.10).
    pub fn new<'a>(uri: impl Into<UriRef<'a>>) -> Address {
        Address {
            text: format!("<{}>", uri.into()),
            params: String::new(),
        }
    }

    /// Adds a display name, quoted and escaped. Line ends are refused where the address is used.
    pub fn with_display(mut self, name: &str) -> Address {
        let mut quoted = String::with_capacity(name.len() + self.text.len() + 3);
        quote(name, &mut quoted);
        quoted.push(' ');
        if let Some(at) = self.text.rfind(" <") {
            self.text.drain(..=at);
        }
        self.text.insert_str(0, &quoted);
        self
    }

    /// Adds a parameter, in quotes where its value needs them.
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Address {
        self.params.push(';');
        self.params.push_str(name);
        if let Some(value) = value {
            self.params.push('=');
            push_value(value, &mut self.params);
        }
        self
    }

    /// Adds a `tag` parameter.
    pub fn with_tag(self, tag: &str) -> Address {
        self.with_param("tag", Some(tag))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        f.write_str(&self.params)
    }
}

/// A token as it is, anything else in quotes.
pub(crate) fn push_value(value: &str, out: &mut String) {
    let plain = !value.is_empty()
        && value
            .bytes()
            .all(|byte| is_token(byte) || matches!(byte, b'[' | b']' | b':'));
    if plain {
        out.push_str(value);
    } else {
        quote(value, out);
    }
}

/// `quoted-string` of RFC 3261 §25.1.
pub(crate) fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        let _ = out.write_char(c);
    }
    out.push('"');
}
