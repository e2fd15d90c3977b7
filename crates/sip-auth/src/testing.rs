//! Header values for unit tests, read through messages as in life.

use sipora_message::{HeaderName, Limits, Request, Response};

use crate::{AuthError, Challenge, DigestResponse};

pub(crate) fn challenge(value: &str) -> Result<Challenge, AuthError> {
    let text = format!("SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: {value}\r\n\r\n");
    let response = Response::parse(text.into_bytes(), &Limits::default()).expect("a response");
    let mut values = response.headers().challenges(&HeaderName::WwwAuthenticate);
    Challenge::try_from(values.next().expect("a value")?)
}

pub(crate) fn answer(value: &str) -> Result<DigestResponse, AuthError> {
    let text = format!("REGISTER sip:a SIP/2.0\r\nAuthorization: {value}\r\n\r\n");
    let request = Request::parse(text.into_bytes(), &Limits::default()).expect("a request");
    let mut values = request.headers().credentials(&HeaderName::Authorization);
    DigestResponse::try_from(values.next().expect("a value")?)
}
