//! Request methods.

use std::fmt;
use std::str::FromStr;

use crate::classes::is_token;
use crate::scan;

/// The method of a request (RFC 3261 §7.1). Methods are case-sensitive: `invite` is not `INVITE`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// REGISTER, RFC 3261 §10.
    Register,
    /// INVITE, RFC 3261 §13.
    Invite,
    /// ACK, RFC 3261 §13 and §17.
    Ack,
    /// CANCEL, RFC 3261 §9.
    Cancel,
    /// BYE, RFC 3261 §15.
    Bye,
    /// OPTIONS, RFC 3261 §11.
    Options,
    /// MESSAGE, RFC 3428.
    Message,
    /// SUBSCRIBE, RFC 6665.
    Subscribe,
    /// NOTIFY, RFC 6665.
    Notify,
    /// PUBLISH, RFC 3903.
    Publish,
    /// INFO, RFC 6086.
    Info,
    /// PRACK, RFC 3262.
    Prack,
    /// UPDATE, RFC 3311.
    Update,
    /// REFER, RFC 3515.
    Refer,
    /// Any other token.
    Other(Box<str>),
}

impl Method {
    /// All methods that have a name of their own, in the order of the enum.
    pub const KNOWN: [Method; 14] = [
        Method::Register,
        Method::Invite,
        Method::Ack,
        Method::Cancel,
        Method::Bye,
        Method::Options,
        Method::Message,
        Method::Subscribe,
        Method::Notify,
        Method::Publish,
        Method::Info,
        Method::Prack,
        Method::Update,
        Method::Refer,
    ];

    /// The method as it is written on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Register => "REGISTER",
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Cancel => "CANCEL",
            Method::Bye => "BYE",
            Method::Options => "OPTIONS",
            Method::Message => "MESSAGE",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Publish => "PUBLISH",
            Method::Info => "INFO",
            Method::Prack => "PRACK",
            Method::Update => "UPDATE",
            Method::Refer => "REFER",
            Method::Other(name) => name,
        }
    }

    /// The place in [`Method::KNOWN`].
    pub(crate) fn place(&self) -> Option<u8> {
        Some(match self {
            Method::Register => 0,
            Method::Invite => 1,
            Method::Ack => 2,
            Method::Cancel => 3,
            Method::Bye => 4,
            Method::Options => 5,
            Method::Message => 6,
            Method::Subscribe => 7,
            Method::Notify => 8,
            Method::Publish => 9,
            Method::Info => 10,
            Method::Prack => 11,
            Method::Update => 12,
            Method::Refer => 13,
            Method::Other(_) => return None,
        })
    }

    /// Reads a method; `None` when the bytes are no token.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Method> {
        if let Some(method) = Method::known(bytes) {
            return Some(method);
        }
        if bytes.is_empty() || !bytes.iter().all(|byte| is_token(*byte)) {
            return None;
        }
        Some(Method::Other(scan::text(bytes)?.into()))
    }

    /// Reads a method that has a name of its own.
    #[inline]
    pub(crate) fn known(bytes: &[u8]) -> Option<Method> {
        scan::visit(bytes.len());
        Some(match bytes {
            b"REGISTER" => Method::Register,
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"CANCEL" => Method::Cancel,
            b"BYE" => Method::Bye,
            b"OPTIONS" => Method::Options,
            b"MESSAGE" => Method::Message,
            b"SUBSCRIBE" => Method::Subscribe,
            b"NOTIFY" => Method::Notify,
            b"PUBLISH" => Method::Publish,
            b"INFO" => Method::Info,
            b"PRACK" => Method::Prack,
            b"UPDATE" => Method::Update,
            b"REFER" => Method::Refer,
            _ => return None,
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Method {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Method, NotAToken> {
        Method::from_bytes(text.as_bytes()).ok_or(NotAToken)
    }
}

/// The text is no token of RFC 3261 §25.1: it is empty, or holds a separator, a space or a control character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token (RFC 3261 section 25.1)")]
pub struct NotAToken;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_method_survives_its_text() {
        for method in Method::KNOWN {
            assert_eq!(method.as_str().parse::<Method>().unwrap(), method);
            assert_eq!(Method::KNOWN[usize::from(method.place().unwrap())], method);
        }
    }

    #[test]
    fn methods_are_case_sensitive_and_tokens_only() {
        assert_eq!("invite".parse(), Ok(Method::Other("invite".into())));
        assert_eq!(
            "RE%47IST%45R".parse(),
            Ok(Method::Other("RE%47IST%45R".into()))
        );
        assert_eq!("".parse::<Method>(), Err(NotAToken));
        assert_eq!("IN VITE".parse::<Method>(), Err(NotAToken));
        assert_eq!("INVITE\r\n".parse::<Method>(), Err(NotAToken));
    }
}
