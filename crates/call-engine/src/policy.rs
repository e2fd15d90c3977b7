//! Reading what a REGISTER asks for, and granting it (RFC 3261 §10.3 steps 6 and 7).

use sipora_message::{ContactRef, Contacts, HeaderName, Headers, Request, Scheme, StatusCode};

use crate::config::ONE_HOUR;
use crate::refusal::Refusal;
use crate::{ContactChange, Update};

/// How long a binding may last, in seconds. `minimum <= default <= maximum`, and `minimum` is at most an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) default: u32,
    pub(crate) minimum: u32,
    pub(crate) maximum: u32,
}

impl Expiry {
    /// Grants what is asked for, or less.
    ///
    /// "If and only if the requested expiration interval is greater than zero AND smaller than one hour AND less than a
    /// registrar-configured minimum, the registrar MAY reject the registration with a response of 423".
    fn grant(&self, requested: u32) -> Result<u32, Refusal> {
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
