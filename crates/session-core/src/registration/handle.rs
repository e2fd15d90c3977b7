//! [`RegistrationHandle`]: what a caller holds of a registration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sipora_dialog_core::TransactionId;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::inbox::{Answered, Inbox};
use super::owner::Details;
use super::registrant::now;
use super::{RegistrationState, RegistrationStates};
use crate::{Error, Result, SipResponse};

/// Keeps a contact bound: as long as it lives, the binding is refreshed before it expires.
///
/// The public fields tell about the **first** 2xx and never change; the methods tell about the newest.
///
/// # Life
///
/// Dropped, it stops refreshing at once, sends nothing, and the binding expires by itself; what is under way is given up.
/// [`unregister`](Self::unregister) removes the binding. Both end the registration, as do a refusal for good and the
/// shutdown of the coordinator; [`state`](Self::state) tells which, and the operations then fail:
/// with [`Error::RegistrationEnded`] and its cause after a refusal for good, else with [`Error::Closed`].
///
/// # Refreshing
///
/// A refresh is due at half the granted time when that is below 120 s, 60 s before its end when it is below 600 s, else a
/// tenth before its end; up to a tenth sooner, at random. It keeps Call-ID and From tag and raises CSeq.
///
/// A failure that [may pass](Error::is_temporary) is followed by another try after 30 to 60 s, then 60 to 120 s, and so on
/// up to 15 to 30 minutes (RFC 5626 §4.5), no sooner than a Retry-After says; also when the binding has expired
/// meanwhile. Any other failure ends the registration: a wrong password is sent once.
///
/// # Lost connections
///
/// A registrar reaches us over the connection that the REGISTER came by (TCP, TLS, WebSocket). When that ends, a REGISTER
/// follows over a new one within a second, [`FlowLost`](RegistrationState::FlowLost) until then, and with the waits of
/// failures where connections end before they have served for 30 s (the base of the back-off). A connection that dies
/// without a word is found out by pings: every 120 s, or as often as the registrar's Flow-Timer says (RFC 5626 §4.4); see
/// [`with_keep_alive`](crate::SessionManagerBuilder::with_keep_alive). Over UDP the same follows when STUN, where it is
/// [used](crate::UdpKeepAlive), gets no answer, or another address than before.
///
/// # Order
///
/// One REGISTER at a time: what is asked for while another is under way waits for its end (RFC 3261 §10.2), in the order
/// of asking. Who asks for what others wait for shares its outcome; a refresh that is under way serves who asks for one
/// meanwhile. A future of the operations below that is dropped gives up the wait alone: what was asked for still
/// happens, unless the registration ends before its turn.
#[must_use = "a registration is refreshed as long as its handle lives"]
#[derive(Debug)]
#[non_exhaustive]
pub struct RegistrationHandle {
    /// The transaction of the first 2xx, by the branch of its Via.
    pub transaction_id: TransactionId,
    /// How many seconds the first 2xx granted: the `expires` of our Contact in it, else of the only Contact in it, else its
    /// Expires header field, else the longest of several other Contacts that is no longer than what was asked for, else
    /// what was asked for. [`granted`](Self::granted) follows refreshes.
    pub expires: u32,
    /// The contact that is bound.
    pub contact_uri: String,
    /// The registrar.
    pub registrar_uri: String,
    pub(crate) link: Link,
}

/// The way to the task. A field of its own, so that the public fields can be moved out of the handle.
pub(crate) struct Link {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) states: watch::Receiver<RegistrationState>,
    pub(crate) details: watch::Receiver<Details>,
    /// `None`: there never was a task.
    pub(crate) task: Option<AbortHandle>,
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", *self.states.borrow())
    }
}

impl RegistrationHandle {
    /// What the registration is doing.
    pub fn state(&self) -> RegistrationState {
        self.link.states.borrow().clone()
    }

    /// Follows the states, beginning with the present one. Many readers may follow.
    pub fn states(&self) -> RegistrationStates {
        RegistrationStates::new(self.link.states.clone())
    }

    /// How many seconds the newest 2xx granted.
    pub fn granted(&self) -> u32 {
        self.link.details.borrow().granted
    }

    /// How long the contact is still bound; zero when it is not.
    pub fn expires_in(&self) -> Duration {
        self.link
            .details
            .borrow()
            .bound_until
            .saturating_duration_since(now())
    }

    /// The newest 2xx.
    pub fn response(&self) -> SipResponse {
        self.link.details.borrow().response.clone()
    }

    /// Refreshes now, and gives the seconds that are newly granted.
    ///
    /// # Errors
    ///
    /// Those of [`SipClient::register`](crate::SipClient::register). The registration takes the failure as one of its own
    /// refreshes: it tries again later, or ends.
    pub async fn refresh(&self) -> Result<u32> {
        self.ask().await
    }

    /// Asks the registrar for every binding of the address-of-record, ours and others. Changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`SipClient::register`](crate::SipClient::register). The registration goes on, unless credentials were
    /// refused.
    pub async fn query(&self) -> Result<Vec<Binding>> {
        self.ask().await
    }

    /// Removes our contact at the registrar, and no other. Calling it again does nothing.
    ///
    /// # Errors
    ///
    /// Those of [`SipClient::register`](crate::SipClient::register). The registration then goes on, since the contact may
    /// still be bound: call again, or drop the handle. Credentials that were refused end it. A registration that has
    /// [failed](RegistrationState::Failed) removes nothing: a binding that is left expires by itself, or another
    /// registration with the same contact and an expiry of 0 removes it.
    pub async fn unregister(&self) -> Result<()> {
        if self.is_unregistered() {
            return Ok(());
        }
        match self.ask().await {
            // Somebody else's call was first.
            Err(Error::Closed) if self.is_unregistered() => Ok(()),
            result => result,
        }
    }

    /// Asks the task; where that has ended by itself, tells why.
    async fn ask<T: Answered>(&self) -> Result<T> {
        match (self.link.inbox.ask().await, self.state()) {
            (Err(Error::Closed), RegistrationState::Failed(cause)) => {
                Err(Error::RegistrationEnded { cause })
            }
            (result, _) => result,
        }
    }

    fn is_unregistered(&self) -> bool {
        matches!(*self.link.states.borrow(), RegistrationState::Unregistered)
    }
}

/// One contact of an address-of-record, as the registrar lists it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Binding {
    /// The contact.
    pub uri: String,
    /// For how many seconds more; 0 where the registrar does not say, which RFC 3261 §10.3 forbids.
    pub expires: u32,
    /// Its preference, 0 to 1, where one was given.
    pub q: Option<f32>,
    /// Whether it is the contact of the handle that asked (RFC 3261 §19.1.4).
    pub is_ours: bool,
}
