//! Subscriptions: asked for once, kept alive, read as a stream (RFC 6665).

mod handle;
mod notification;

use std::sync::Arc;

pub use handle::{Documents, Notifications, SubscriptionHandle, SubscriptionStates};
pub use notification::Notification;

use sipora_dialog_core::{
    EventPackage, MessageSummaryPackage, Subscribe, SubscriptionEnd, SubscriptionState,
};
use sipora_message::{HeaderName, Uri};

use crate::outgoing::Outbound;
use crate::states::Life;
use crate::{Error, Result, SipResponse};

/// The event packages that this crate knows.
pub(crate) fn packages() -> Vec<Arc<dyn EventPackage>> {
    #[cfg(feature = "pidf")]
    let presence = CheckedPresence;
    #[cfg(not(feature = "pidf"))]
    let presence = sipora_dialog_core::PresencePackage;
    vec![Arc::new(presence), Arc::new(MessageSummaryPackage)]
}

/// Presence whose documents are read before they are accepted: one that makes no sense gets 400.
#[cfg(feature = "pidf")]
struct CheckedPresence;

#[cfg(feature = "pidf")]
impl EventPackage for CheckedPresence {
    fn name(&self) -> &str {
        "presence"
    }

    fn accept(&self) -> &[&str] {
        &["application/pidf+xml"]
    }

    fn check(
        &self,
        _: &str,
        body: &[u8],
    ) -> std::result::Result<(), sipora_dialog_core::BodyRefusal> {
        let refusal = |error: crate::BodyError| sipora_dialog_core::BodyRefusal {
            status: sipora_message::StatusCode::BAD_REQUEST,
            reason: error.to_string(),
        };
        crate::Presence::parse(body).map(drop).map_err(refusal)
    }
}

/// Subscribes, and waits until the notifier has accepted.
pub(crate) async fn subscribe(
    outbound: &Arc<Outbound>,
    target: Uri,
    contact: Uri,
    event: &str,
    expires: u32,
) -> Result<SubscriptionHandle> {
    let subscriber = outbound.subscriber.as_ref().ok_or(Error::Closed)?;
    let mut headers = vec![(HeaderName::UserAgent, outbound.user_agent.clone())];
    if let Some(proxy) = &outbound.proxy {
        headers.push((HeaderName::Route, format!("<{proxy}>")));
    }
    let subscribe = Subscribe {
        target: target.clone(),
        from: outbound.identity.clone(),
        contact,
        event: event.to_owned(),
        expires,
        headers,
    };
    let authorizer = Some(outbound.authorizer.clone());
    let opened = subscriber
        .subscribe(subscribe, authorizer, outbound.timeout)
        .await;
    let has_credentials = !outbound.credentials.is_empty();
    let subscription = opened.map_err(|end| failure(end, has_credentials))?;
    Ok(SubscriptionHandle::new(
        subscription,
        target,
        event.to_owned(),
        has_credentials,
    ))
}

/// What an end that nobody wished for says to a caller.
fn failure(end: SubscriptionEnd, has_credentials: bool) -> Error {
    match end {
        SubscriptionEnd::Refused { response, refusal } => {
            let is_challenge = matches!(response.status().as_u16(), 401 | 407);
            let response = SipResponse::from(response);
            if !is_challenge || !has_credentials {
                return Error::Rejected(response);
            }
            let reason = refusal.map_or_else(
                || "the notifier keeps asking for credentials".to_owned(),
                |refusal| refusal.to_string(),
            );
            Error::AuthenticationFailed { reason, response }
        }
        SubscriptionEnd::NoAnswer(error) => error.into(),
        _ => Error::Closed,
    }
}

impl Life for SubscriptionState {
    fn is_last(&self) -> bool {
        self.is_terminal()
    }
}
