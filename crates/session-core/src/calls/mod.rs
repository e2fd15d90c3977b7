//! Calls, signalling only: made, taken, followed by their events, and ended (RFC 3261 §13 to §15).

mod described;
mod direction;
mod end;
mod event;
mod handle;
mod handover;
mod heard;
mod incoming;
mod options;
mod owed;
mod redirects;
mod reporter;
#[cfg(feature = "serde")]
mod saved;
mod state;
mod transfer;
mod transferring;
mod wishes;

use std::sync::Arc;

use sipora_dialog_core::{Authorizer, Body, Call, CallError, Invite};
use sipora_message::{HeaderName, Uri};

pub use direction::MediaDirection;
pub use end::CallEnd;
pub use event::CallEvent;
pub use handle::CallHandle;
pub(crate) use handover::restore;
pub use incoming::IncomingCalls;
pub use options::CallOptions;
pub use state::CallState;
pub use transfer::{TransferReport, TransferRequest};

use crate::outgoing::Outbound;
use crate::{Error, Result, uri};
use redirects::Redirects;

/// Begins a call, and waits for no answer.
pub(crate) async fn call(
    outbound: &Arc<Outbound>,
    target: Uri,
    options: CallOptions,
) -> Result<CallHandle> {
    let outgoing = Outgoing::new(outbound.clone(), &target, options)?;
    let call = outgoing.call(&target).await?;
    Ok(CallHandle::outgoing(call, outgoing, target))
}

/// Calls whom a transfer names (RFC 3515 §2.4.2), in the place of another call where it says so.
async fn follow(
    outbound: &Arc<Outbound>,
    wish: &TransferRequest,
    mut options: CallOptions,
) -> Result<(Call, Outgoing, Uri)> {
    let (target, replaces) = wish.place()?;
    if let Some(referrer) = wish.referred_by() {
        options = options.with_header(HeaderName::ReferredBy, referrer);
    }
    if let Some(replaces) = replaces {
        options = options.replacing(&replaces);
    }
    for (name, value) in wish.referral.header_fields() {
        // What the application says itself is what is said.
        if !options.headers.iter().any(|(known, _)| *known == name) {
            options = options.with_header(name, value);
        }
    }
    let outgoing = Outgoing::new(outbound.clone(), &target, options)?;
    let call = outgoing.call(&target).await?;
    Ok((call, outgoing, target))
}

/// What all INVITEs of one call that we make have in common, wherever they are redirected to.
struct Outgoing {
    outbound: Arc<Outbound>,
    from: Uri,
    display: Option<String>,
    to: String,
    sdp: Option<String>,
    headers: Vec<(HeaderName, String)>,
    authorizer: Arc<dyn Authorizer>,
    has_credentials: bool,
    redirects: Redirects,
}

impl Outgoing {
    fn new(outbound: Arc<Outbound>, target: &Uri, options: CallOptions) -> Result<Self> {
        options.check()?;
        let from = match &options.from {
            Some(from) => uri::address_of_record("from_uri", from)?,
            None => outbound.identity.clone(),
        };
        let (authorizer, has_credentials) = match options.credentials {
            Some(own) => outbound.authorizer_for(Some(own)),
            None => (
                outbound.authorizer.clone(),
                !outbound.credentials.is_empty(),
            ),
        };
        Ok(Self {
            from,
            display: options.display,
            to: format!("<{target}>"),
            sdp: options.sdp,
            headers: options.headers,
            authorizer,
            has_credentials,
            redirects: Redirects::new(options.redirects, target),
            outbound,
        })
    }

    /// Sends the INVITE to `target`, as it is or as somebody has redirected it: "the UAC SHOULD reuse the same To, From"
    /// (RFC 3261 §8.1.3.4).
    async fn call(&self, target: &Uri) -> Result<Call> {
        let user = self.from.user_decoded().unwrap_or_default();
        let contact = self.outbound.contact(&user, target).await?;
        let mut invite = Invite::new(target.clone(), self.from.clone(), contact).to(&self.to);
        if let Some(display) = &self.display {
            invite = invite.from(format!("{} <{}>", quoted(display), self.from));
        }
        if let Some(proxy) = &self.outbound.proxy {
            invite = invite.header(HeaderName::Route, format!("<{proxy}>"));
        }
        for (name, value) in &self.headers {
            invite = invite.header(name.clone(), value);
        }
        if let Some(sdp) = &self.sdp {
            invite = invite.body(body(sdp)?);
        }
        let authorizer = Some(self.authorizer.clone());
        let call = self.outbound.dialogs.invite(invite, authorizer).await;
        call.map_err(Error::from)
    }
}

/// A session description as a body.
///
/// # Errors
///
/// [`Error::InvalidRequest`] for an empty one: no body at all would mean something else.
fn body(sdp: &str) -> Result<Body> {
    if sdp.is_empty() {
        return Err(Error::request("body", "the session description is empty"));
    }
    Ok(Body::new(SDP, sdp.as_bytes().to_vec()))
}

/// RFC 3261 §25.1: quoted-string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Gone => Error::TooLate,
            CallError::NotNow(reason) => Error::NotNow { reason },
            CallError::BodyNeeded(reason) => Error::request("body", reason),
            CallError::Invalid(reason) => Error::request("call", reason),
            CallError::Failed(error) => error.into(),
            CallError::Busy => Error::Busy,
            CallError::NotEnabled => Error::NotSupported {
                operation: "call",
                how: WITH_CALLS,
            },
            _ => Error::Closed,
        }
    }
}

pub(crate) const WITH_CALLS: &str = "build the SessionManagerBuilder with build_with_calls()";

/// The type of session descriptions (RFC 3261 §13.1).
const SDP: &str = "application/sdp";
