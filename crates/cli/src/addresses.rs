//! The URIs of a registration: whose it is, where it is kept, and what is bound.

use sipora_session_core::message::Uri;

use crate::client;
use crate::exit::Failure;
use crate::register::RegisterArguments;

/// The URIs of a registration.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// The address-of-record, without parameters (RFC 3261 §10.3 step 5).
    pub(crate) record: Uri,
    /// Where the REGISTER goes, and its Request-URI.
    pub(crate) registrar: Uri,
    /// The contact of the command line.
    pub(crate) contact: Option<Uri>,
}

impl Addresses {
    pub(crate) fn from_arguments(arguments: &RegisterArguments) -> Result<Addresses, Failure> {
        let given = client::parse_uri("URI", &arguments.uri)?;
        let Some(user) = given.user() else {
            return Err(Failure::Local(format!(
                "URI '{given}' names no user: an address-of-record is like sip:alice@example.com"
            )));
        };
        let domain = match given.port() {
            Some(port) => format!("{}:{port}", given.host_str()),
            None => given.host_str().to_owned(),
        };
        let scheme = given.scheme_str();
        let record = client::parse_uri("URI", &format!("{scheme}:{user}@{domain}"))?;
        let registrar = match &arguments.registrar {
            Some(registrar) => client::parse_uri("--registrar", registrar)?,
            None => {
                let registrar = client::parse_uri("URI", &format!("{scheme}:{domain}"))?;
                match given.transport() {
                    Some(transport) => registrar
                        .with_param("transport", Some(transport))
                        .map_err(|error| Failure::Local(error.to_string()))?,
                    None => registrar,
                }
            }
        };
        if registrar.user().is_some() {
            return Err(Failure::Local(format!(
                "--registrar '{}' names a user: a registrar is like sip:example.com",
                client::without_password(registrar.as_str())
            )));
        }
        let registrar = client::with_transport(registrar, arguments.client.transport)?;
        let contact = match &arguments.contact {
            Some(contact) => Some(client::parse_uri("--contact", contact)?),
            None => None,
        };
        Ok(Addresses {
            record,
            registrar,
            contact,
        })
    }

    /// The user's name, unescaped: whom a password belongs to, and the user part of our contact.
    pub(crate) fn user(&self) -> String {
        self.record.user_decoded().unwrap_or_default().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn addresses(flags: &[&str]) -> Result<Addresses, Failure> {
        let words = ["sipora", "register"].iter().chain(flags);
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Register(arguments) => Addresses::from_arguments(&arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_registrar_is_the_domain_of_the_address() {
        for (given, record, registrar) in [
            (
                "sip:alice@example.com",
                "sip:alice@example.com",
                "sip:example.com",
            ),
            (
                "sip:alice@127.0.0.1:5070",
                "sip:alice@127.0.0.1:5070",
                "sip:127.0.0.1:5070",
            ),
            (
                "sips:alice@[::1]:5061",
                "sips:alice@[::1]:5061",
                "sips:[::1]:5061",
            ),
            (
                "sip:alice@example.com;transport=tcp",
                "sip:alice@example.com",
                "sip:example.com;transport=tcp",
            ),
            (
                "sip:a%20b:secret@example.com?Subject=x",
                "sip:a%20b@example.com",
                "sip:example.com",
            ),
        ] {
            let addresses = addresses(&[given]).unwrap();
            assert_eq!(addresses.record.as_str(), record);
            assert_eq!(addresses.registrar.as_str(), registrar);
        }
    }

    #[test]
    fn another_registrar_can_be_named() {
        let addresses = addresses(&[
            "sip:alice@example.com",
            "--registrar",
            "sip:127.0.0.1:5070",
            "--transport",
            "tcp",
        ])
        .unwrap();
        assert_eq!(addresses.record.as_str(), "sip:alice@example.com");
        assert_eq!(
            addresses.registrar.as_str(),
            "sip:127.0.0.1:5070;transport=tcp"
        );
    }

    #[test]
    fn the_user_is_unescaped() {
        assert_eq!(addresses(&["sip:a%20b@example.com"]).unwrap().user(), "a b");
    }

    #[test]
    fn an_address_without_user_is_wrong_usage() {
        let failure = addresses(&["sip:example.com"]).unwrap_err();
        assert_eq!(failure.status(), 2);
        assert!(
            failure.to_string().contains("sip:alice@example.com"),
            "{failure}"
        );
    }

    #[test]
    fn a_registrar_with_user_is_wrong_usage() {
        let failure = addresses(&[
            "sip:alice@example.com",
            "--registrar",
            "sip:bob@example.com",
        ])
        .unwrap_err();
        assert_eq!(failure.status(), 2);
    }

    #[test]
    fn what_would_break_out_of_a_header_field_is_no_uri() {
        for contact in ["sip:a@b\r\nX: y", "sip:a@b>", "sip:a@b;x=\"", "sip:a b@c"] {
            let failure = addresses(&["sip:alice@example.com", "--contact", contact]).unwrap_err();
            assert_eq!(failure.status(), 2, "{contact}");
        }
    }
}
