//! What a message says of where its sender is reached: its Contact, and the route there (RFC 3261 §12.1).

use sipora_message::{Contacts, HeaderName, Headers, NameAddr, Request, Scheme, Uri};

use super::DialogError;

/// One entry of a route set: as it is printed, parameters and all, and its URI.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) text: Box<str>,
    pub(super) uri: Uri,
}

pub(super) fn asks_securely(request: &Request) -> bool {
    request.uri().is_ok_and(|uri| uri.scheme() == Scheme::Sips)
}

pub(super) fn target(headers: Headers<'_>) -> Result<Uri, DialogError> {
    let contact = headers.contact()?.ok_or(DialogError::Missing("Contact"))?;
    let uri = contact.uri();
    if !uri.is_sip() {
        return Err(NO_TARGET);
    }
    // Neither may be there, nor in the Request-URI that is made of it (RFC 3261 §19.1.1).
    Ok(match uri.has_headers() || uri.param("method").is_some() {
        true => uri.to_owned().to_request_uri(),
        false => uri.to_owned(),
    })
}

/// The target that a request gives: its Contact "MUST be present and contain exactly one SIP or SIPS URI in any request that can
/// result in the establishment of a dialog" (RFC 3261 §8.1.1.8).
pub(super) fn only_target(headers: Headers<'_>) -> Result<Uri, DialogError> {
    match headers.contacts()? {
        Contacts::List(all) if all.len() > 1 => Err(NO_TARGET),
        _ => target(headers),
    }
}

const NO_TARGET: DialogError = DialogError::Missing("a SIP or SIPS URI in Contact, and one alone");

/// A value as one line, which can be sent again: a fold stands for a space (RFC 3261 §7.3.1).
pub(crate) fn unfolded(value: &[u8]) -> String {
    String::from_utf8_lossy(value).replace(['\r', '\n'], " ")
}

pub(super) fn routes(headers: Headers<'_>) -> Result<Vec<Route>, DialogError> {
    let route = |address: NameAddr<'_>| Route {
        text: unfolded(address.as_bytes()).into(),
        uri: address.uri().to_owned(),
    };
    let mut routes = headers
        .addresses(&HeaderName::RecordRoute)
        .map(|address| address.map(route))
        .collect::<Result<Vec<_>, _>>()?;
    // A vector begins with room for four, and is kept for as long as the dialog.
    routes.shrink_to_fit();
    Ok(routes)
}
