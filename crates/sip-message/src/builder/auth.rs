//! Challenges and credentials to be printed.

use std::fmt;

use super::address::quote;
use super::value::check_token;
use crate::method::NotAToken;

/// A challenge, credentials or an Authentication-Info to be printed (RFC 7235 §2.1). Which parameters stand in quotes
/// is for their scheme to say: RFC 7616 has `realm="…"` but `algorithm=MD5`.
///
/// ```
/// use sipora_message::AuthBuf;
///
/// let challenge = AuthBuf::new("Digest")?.quoted("realm", "a \"b\"")?.plain("algorithm", "MD5")?;
/// assert_eq!(challenge.to_string(), r#"Digest realm="a \"b\"", algorithm=MD5"#);
/// # Ok::<(), sipora_message::NotAToken>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthBuf {
    text: String,
    params: usize,
}

impl AuthBuf {
    /// A value without parameters yet.
    pub fn new(scheme: &str) -> Result<AuthBuf, NotAToken> {
        check_token(scheme)?;
        Ok(AuthBuf {
            text: scheme.into(),
            params: 0,
        })
    }

    /// A value without a scheme, for Authentication-Info.
    pub fn info() -> AuthBuf {
        AuthBuf::default()
    }

    /// Adds a parameter in quotes.
    pub fn quoted(mut self, name: &str, value: &str) -> Result<AuthBuf, NotAToken> {
        if value.bytes().any(super::is_injection) {
            return Err(NotAToken);
        }
        self.name(name)?;
        quote(value, &mut self.text);
        Ok(self)
    }

    /// Adds a parameter that is a token.
    pub fn plain(mut self, name: &str, value: &str) -> Result<AuthBuf, NotAToken> {
        check_token(value)?;
        self.name(name)?;
        self.text.push_str(value);
        Ok(self)
    }

    fn name(&mut self, name: &str) -> Result<(), NotAToken> {
        check_token(name)?;
        if self.params > 0 {
            self.text.push_str(", ");
        } else if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.params += 1;
        self.text.push_str(name);
        self.text.push('=');
        Ok(())
    }
}

impl fmt::Display for AuthBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
