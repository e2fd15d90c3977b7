//! Reading what a REGISTER asks for, and granting it (RFC 3261 §10.3 steps 6 and 7).

use sipora_message::{ContactRef, Contacts, HeaderName, Headers, Request, Scheme, StatusCode};

use crate::config::ONE_HOUR;
use crate::refusal::Refusal;
use crate::{ContactChange, Error, Update};

/// How long a binding, subscription or publication may last, in seconds. `minimum <= default <= maximum`, and `minimum` is at most an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) default: u32,
    pub(crate) minimum: u32,
    pub(crate) maximum: u32,
}

impl Expiry {
    /// Makes one of settings that were given.
    pub(crate) fn checked(
        setting: &'static str,
        default: u32,
        minimum: u32,
        maximum: u32,
    ) -> crate::Result<Self> {
        let wrong = |reason: &str| Error::Configuration {
            setting,
            reason: reason.to_owned(),
        };
        if minimum == 0 || minimum > ONE_HOUR {
            return Err(wrong("the minimum is from 1 to 3600 seconds"));
        }
        if !(minimum..=maximum).contains(&default) {
            return Err(wrong("the default lies between minimum and maximum"));
        }
        Ok(Self {
            default,
            minimum,
            maximum,
        })
    }

    /// Grants what is asked for, or less.
    ///
    /// "If and only if the requested expiration interval is greater than zero AND smaller than one hour AND less than a
    /// registrar-configured minimum, the registrar MAY reject the registration with a response of 423".
    pub(crate) fn grant(&self, requested: u32) -> Result<u32, Refusal> {
        if requested > 0 && requested < ONE_HOUR && requested < self.minimum {
            return Err(
                Refusal::new(StatusCode::INTERVAL_TOO_BRIEF, "Interval Too Brief")
                    .with_header(HeaderName::MinExpires, self.minimum.to_string()),
            );
        }
        Ok(requested.min(self.maximum))
    }
}

/// Reads what a REGISTER asks for: `None` for one without Contact, which asks what is bound.
pub(crate) fn read(request: &Request, expiry: &Expiry) -> Result<Option<Update>, Refusal> {
    let headers = request.headers();
    let contacts = headers
        .contacts()
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    let header = expires_header(&headers)?;
    let contacts = match contacts {
        Contacts::List(list) if list.is_empty() => return Ok(None),
        Contacts::List(list) => list,
        // "If the request has additional Contact fields or an expiration time other than zero, the request is invalid".
        // Additional fields are refused by the parser.
        _ if header == Some(0) => return Ok(Some(Update::RemoveAll)),
        _ => return Err(Refusal::bad_request("Contact: * needs Expires: 0")),
    };
    let secure = request.uri().is_ok_and(|uri| uri.scheme() == Scheme::Sips);
    let changes: Result<Vec<ContactChange>, Refusal> = contacts
        .iter()
        .map(|contact| {
            // RFC 5630 §5.2: "A registrar MUST accept a binding to a SIPS Contact header field only if all the
            // appropriate URIs are of the SIPS scheme", the Request-URI among them, else 400.
            if contact.uri().scheme() == Scheme::Sips && !secure {
                return Err(Refusal::bad_request(
                    "a SIPS Contact needs a SIPS Request-URI",
                ));
            }
            // "If the field value has an "expires" parameter, that value MUST be taken as the requested expiration",
            // then the header, then "a locally-configured default value".
            let requested = contact.expires().or(header).unwrap_or(expiry.default);
            change(contact, expiry.grant(requested)?)
        })
        .collect();
    changes.map(|changes| Some(Update::Contacts(changes)))
}

/// A malformed Expires counts as an hour (RFC 3261 §10.2), but two of them say two things.
fn expires_header(headers: &Headers<'_>) -> Result<Option<u32>, Refusal> {
    match headers.expires() {
        Ok(seconds) => Ok(seconds),
        Err(_) if headers.count(&HeaderName::Expires) > 1 => {
            Err(Refusal::bad_request("more than one Expires"))
        }
        Err(_) => Ok(Some(ONE_HOUR)),
    }
}

fn change(contact: &ContactRef<'_>, expires: u32) -> Result<ContactChange, Refusal> {
    let uri = contact.uri();
    let parameters = other_parameters(contact);
    if uri.as_str().len() + parameters.len() > MAX_CONTACT_BYTES {
        return Err(Refusal::new(
            StatusCode::MESSAGE_TOO_LARGE,
            "Contact Too Long",
        ));
    }
    Ok(ContactChange::new(uri.to_owned(), expires)
        .with_q(contact.q().map(|q| q.thousandths()))
        .with_parameters(parameters))
}

/// What a Contact says besides `q` and `expires`, to be repeated in answers. Octets that are no text are left out.
fn other_parameters(contact: &ContactRef<'_>) -> String {
    let mut text = String::new();
    for parameter in contact.params().iter() {
        let name = parameter.name();
        let value = parameter.raw_value().map(std::str::from_utf8).transpose();
        let (false, Ok(value)) = (
            name.eq_ignore_ascii_case("q") || name.eq_ignore_ascii_case("expires"),
            value,
        ) else {
            continue;
        };
        text.push(';');
        text.push_str(name);
        if let Some(value) = value {
            text.push('=');
            // A quoted value may be folded; what is repeated is not.
            text.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
    }
    text
}

/// A URI with its parameters as long as this is no address any more but a message.
const MAX_CONTACT_BYTES: usize = 2048;
/// Call-IDs are kept with each binding.
pub(crate) const MAX_CALL_ID_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use sipora_message::Limits;

    use super::*;

    const EXPIRY: Expiry = Expiry {
        default: 1800,
        minimum: 60,
        maximum: 7200,
    };

    fn request(uri: &str, lines: &str) -> Request {
        let text = format!(
            "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\nTo: <sip:a@example.com>\r\n\
             From: <sip:a@example.com>;tag=1\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n{lines}\r\n"
        );
        Request::parse(text, &Limits::default()).unwrap()
    }

    fn asked(lines: &str) -> Result<Option<Update>, Refusal> {
        read(&request("sip:example.com", lines), &EXPIRY)
    }

    fn granted(lines: &str) -> Vec<u32> {
        match asked(lines).unwrap() {
            Some(Update::Contacts(list)) => list.iter().map(|contact| contact.expires).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn refused(lines: &str) -> u16 {
        asked(lines).unwrap_err().status.as_u16()
    }

    #[test]
    fn a_request_without_contact_asks_what_is_bound() {
        assert!(asked("Expires: 60\r\n").unwrap().is_none());
    }

    #[test]
    fn the_parameter_beats_the_header_and_the_header_the_default() {
        let two = "Contact: <sip:a@192.0.2.1>;expires=100, <sip:a@192.0.2.2>\r\n";
        assert_eq!(granted(two), [100, 1800]);
        assert_eq!(granted(&format!("{two}Expires: 200\r\n")), [100, 200]);
        assert_eq!(granted(&format!("{two}Expires: 0\r\n")), [100, 0]);
    }

    #[test]
    fn malformed_expiries_count_as_an_hour_and_two_headers_are_refused() {
        assert_eq!(granted("Contact: <sip:a@192.0.2.1>;expires=-1\r\n"), [3600]);
        assert_eq!(
            granted("Contact: <sip:a@192.0.2.1>\r\nExpires: x\r\n"),
            [3600]
        );
        assert_eq!(
            refused("Contact: <sip:a@192.0.2.1>\r\nExpires: 0\r\nExpires: 60\r\n"),
            400
        );
    }

    #[test]
    fn expiries_are_clamped_above_and_refused_below() {
        let contact = |expires: u32| format!("Contact: <sip:a@192.0.2.1>;expires={expires}\r\n");
        assert_eq!(granted(&contact(u32::MAX)), [7200]);
        assert_eq!(granted(&contact(60)), [60]);
        assert_eq!(granted(&contact(0)), [0]);
        let refusal = asked(&contact(59)).unwrap_err();
        assert_eq!(refusal.status, StatusCode::INTERVAL_TOO_BRIEF);
        assert_eq!(refusal.headers, [(HeaderName::MinExpires, "60".to_owned())]);
    }

    #[test]
    fn an_hour_is_never_too_brief() {
        let strict = Expiry {
            minimum: u32::MAX,
            ..EXPIRY
        };
        assert!(strict.grant(3599).is_err());
        assert_eq!(strict.grant(3600).unwrap(), 3600);
        assert_eq!(strict.grant(0).unwrap(), 0);
    }

    #[test]
    fn star_stands_alone_with_expires_zero() {
        assert!(matches!(
            asked("Contact: *\r\nExpires: 0\r\n"),
            Ok(Some(Update::RemoveAll))
        ));
        assert_eq!(refused("Contact: *\r\n"), 400);
        assert_eq!(refused("Contact: *\r\nExpires: 1\r\n"), 400);
        assert_eq!(
            refused("Contact: *\r\nContact: <sip:a@192.0.2.1>\r\nExpires: 0\r\n"),
            400
        );
    }

    #[test]
    fn q_goes_from_zero_to_one() {
        assert_eq!(refused("Contact: <sip:a@192.0.2.1>;q=1.001\r\n"), 400);
        let Ok(Some(Update::Contacts(list))) = asked("Contact: <sip:a@192.0.2.1>;q=0.5\r\n") else {
            panic!("refused");
        };
        assert_eq!(list[0].q, Some(500));
    }

    #[test]
    fn a_folded_parameter_is_kept_on_one_line() {
        let Ok(Some(Update::Contacts(list))) =
            asked("Contact: <sip:a@192.0.2.1>;x=\"one\r\n two\";q=1;y;expires=60\r\n")
        else {
            panic!("refused");
        };
        assert!(list[0].parameters.starts_with(";x=\"one") && list[0].parameters.ends_with(";y"));
        assert!(!list[0].parameters.contains(char::is_control));
    }

    #[test]
    fn a_sips_contact_needs_a_sips_request_uri() {
        let lines = "Contact: <sips:a@192.0.2.1>\r\n";
        assert_eq!(refused(lines), 400);
        assert!(read(&request("sips:example.com", lines), &EXPIRY).is_ok());
    }
}
