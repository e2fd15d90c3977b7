//! Checks of the URIs that callers give.

use sipora_message::{Method, Scheme, Uri};
use sipora_transport::Transport;

use crate::{Error, Result};

/// Reads a URI to which a request of this method shall be sent: "If the URI contains a method parameter, its value MUST be used as the
/// method of the request. The method parameter MUST NOT be placed in the Request-URI" (RFC 3261 §19.1.5).
pub(crate) fn target(argument: &'static str, text: &str, method: &Method) -> Result<Uri> {
    let uri = sip(argument, text)?;
    no_headers(argument, text, &uri)?;
    match uri.param("method") {
        None => Ok(uri),
        Some(Some(wanted)) if wanted == method.as_str() => Ok(uri.to_request_uri()),
        Some(_) => {
            let reason = format!("asks for another method than {method} (RFC 3261 §19.1.5)");
            Err(Error::uri(argument, text, of_method(text), reason))
        }
    }
}

/// Reads the URI of a next hop, which every request goes to.
pub(crate) fn next_hop(argument: &'static str, text: &str) -> Result<Uri> {
    address_of_record(argument, text)
}

/// Reads the URI of a registrar: RFC 3261 §10.2, "The 'userinfo' and '@' components of the SIP URI MUST NOT be present".
pub(crate) fn registrar(argument: &'static str, text: &str) -> Result<Uri> {
    let uri = target(argument, text, &Method::Register)?;
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

/// Reads an address-of-record, or the identity that From shows: without URI headers and `method` (RFC 3261 §19.1.1).
pub(crate) fn address_of_record(argument: &'static str, text: &str) -> Result<Uri> {
    let uri = sip(argument, text)?;
    no_headers(argument, text, &uri)?;
    if uri.param("method").is_some() {
        let reason = "the parameter `method` has no place here (RFC 3261 §19.1.1)";
        return Err(Error::uri(argument, text, of_method(text), reason));
    }
    Ok(uri)
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

/// Where the parameter is, unless it is written with escapes.
fn of_method(text: &str) -> usize {
    text.to_ascii_lowercase()
        .find(";method")
        .map_or(0, |at| at + 1)
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
    fn a_method_is_the_one_of_the_request_or_none() {
        let call = |text| target("x", text, &Method::Invite);
        let stripped = call("sip:bob@example.com;METHOD=INVITE;transport=tcp").unwrap();
        assert_eq!(stripped.as_str(), "sip:bob@example.com;transport=tcp");
        assert_eq!(
            call("sip:h;maddr=192.0.2.1").unwrap().as_str(),
            "sip:h;maddr=192.0.2.1"
        );
        assert_eq!(offset(call("sip:h;method=REGISTER")), 6);
        assert_eq!(offset(call("sip:h;x;Method=invite")), 8);
        assert_eq!(offset(call("sip:h;method")), 6);
        assert_eq!(offset(call("sip:h;%6dethod=BYE")), 0);
        assert_eq!(offset(call("sip:h?Subject=x")), 5);
        assert!(registrar("x", "sip:h;method=REGISTER").is_ok());
        assert_eq!(offset(registrar("x", "sip:h;method=INVITE")), 6);
        assert_eq!(offset(address_of_record("x", "sip:a@h;method=REGISTER")), 8);
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
