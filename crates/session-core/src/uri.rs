//! Checks of the URIs that callers give.

use sipora_message::{Scheme, Uri};
use sipora_transport::Transport;

use crate::{Error, Result};

/// Reads a URI to which a request shall be sent.
pub(crate) fn target(argument: &'static str, text: &str) -> Result<Uri> {
    let uri = sip(argument, text)?;
    no_headers(argument, text, &uri)?;
    Ok(uri)
}

/// Reads the URI of a registrar: RFC 3261 §10.2, "The 'userinfo' and '@' components of the SIP URI MUST NOT be present".
pub(crate) fn registrar(argument: &'static str, text: &str) -> Result<Uri> {
    let uri = target(argument, text)?;
    if uri.user().is_some() {
        let reason = "a registrar has no user part (RFC 3261 §10.2), as in sip:example.com";
        return Err(Error::uri(
            argument,
            text,
            uri.scheme_str().len() + 1,
            reason,
        ));
    }
    Ok(uri)
}

/// Reads an address-of-record, or the identity that From shows: without URI headers (RFC 3261 §19.1.1).
pub(crate) fn address_of_record(argument: &'static str, text: &str) -> Result<Uri> {
    target(argument, text)
}

/// Reads a contact: any URI but `*`, which would be every binding at once.
pub(crate) fn contact(argument: &'static str, text: &str) -> Result<Uri> {
    if text.trim() == "*" {
        let reason =
            "every contact at once is no contact; unregister removes the one that was registered";
        return Err(Error::uri(argument, text, 0, reason));
    }
    parse(argument, text)
}

/// Refuses next hops over transports that this build does not speak, or has no settings for.
pub(crate) fn supported_transport(uri: &Uri, has_tls: bool) -> Result<()> {
    let transport = uri.transport().unwrap_or("udp");
    let is_secure = uri.scheme() == Scheme::Sips;
    if is_secure && !has_tls {
        let what = "TLS, which a sips URI demands, without with_tls,".to_owned();
        return Err(Error::NotImplemented { what });
    }
    let speaks = match transport.parse() {
        // Beside `sips`, UDP cannot be, which the resolver says; TCP means TLS, and WS means WSS.
        Ok(Transport::Udp | Transport::Tcp) => true,
        Ok(Transport::Ws) => cfg!(feature = "ws"),
        Ok(Transport::Wss) => cfg!(feature = "ws") && has_tls,
        Ok(Transport::Tls) => has_tls,
        _ => false,
    };
    if speaks {
        return Ok(());
    }
    let what = format!("the transport `{transport}`");
    Err(Error::NotImplemented { what })
}

fn sip(argument: &'static str, text: &str) -> Result<Uri> {
    let uri = parse(argument, text)?;
    if !uri.is_sip() {
        return Err(Error::uri(argument, text, 0, "is no sip: or sips: URI"));
    }
    Ok(uri)
}

fn no_headers(argument: &'static str, text: &str, uri: &Uri) -> Result<()> {
    if uri.has_headers() {
        let offset = text.find('?').unwrap_or_default();
        return Err(Error::uri(
            argument,
            text,
            offset,
            "URI headers have no place here (RFC 3261 §19.1.1)",
        ));
    }
    Ok(())
}

fn parse(argument: &'static str, text: &str) -> Result<Uri> {
    Uri::parse(text).map_err(|error| Error::uri(argument, text, error.offset(), error.reason()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(result: Result<Uri>) -> usize {
        match result {
            Err(Error::InvalidUri {
                offset,
                argument: "x",
                ..
            }) => offset,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn registrars_have_neither_user_nor_headers() {
        assert!(registrar("x", "sip:example.com:5070;transport=tcp").is_ok());
        assert_eq!(offset(registrar("x", "sip:alice@example.com")), 4);
        assert_eq!(offset(registrar("x", "sip:example.com?a=b")), 15);
        assert_eq!(offset(registrar("x", "tel:+1")), 0);
        offset(registrar("x", ""));
        offset(registrar("x", "example.com"));
    }

    #[test]
    fn a_contact_is_any_one_uri() {
        assert!(contact("x", "tel:+15551234").is_ok());
        assert!(contact("x", "sip:alice@[2001:db8::1]:5070;transport=tcp").is_ok());
        assert_eq!(offset(contact("x", " * ")), 0);
        offset(contact("x", "<sip:alice@example.com>"));
        offset(contact("x", "sip:alice@example.com\r\nEvil: 1"));
    }

    #[test]
    fn transports_that_cannot_be_are_named() {
        let check = |text, has_tls| supported_transport(&Uri::parse(text).unwrap(), has_tls);
        assert!(check("sip:h", false).is_ok());
        assert!(check("sip:h;transport=TCP", false).is_ok());
        for text in ["sips:h", "sip:h;transport=tls", "sips:h;transport=tcp"] {
            assert!(check(text, true).is_ok(), "{text}");
        }
        let web = check("sip:h;transport=ws", false);
        assert_eq!(web.is_ok(), cfg!(feature = "ws"));
        let check = |text| check(text, false);
        for text in [
            "sips:h",
            "sip:h;transport=tls",
            "sip:h;transport=wss",
            "sip:h;transport=sctp",
        ] {
            assert!(
                matches!(check(text), Err(Error::NotImplemented { .. })),
                "{text}"
            );
        }
    }
}
