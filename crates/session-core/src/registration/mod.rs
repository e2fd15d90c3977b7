//! Registrations: bound once, kept bound, removed (RFC 3261 §10.2).

mod expiry;
mod handle;
mod inbox;
mod machine;
mod owner;
mod registrant;
mod state;

use std::sync::Arc;
use std::time::Duration;

use sipora_auth::Credentials;
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub(crate) use expiry::{Backoff, Jitter, expires_header, min_expires};
pub use handle::{Binding, RegistrationHandle};
pub use state::{RegistrationState, RegistrationStates};

use crate::outgoing::Outbound;
use crate::{Result, uri};
use handle::Link;
use inbox::Inbox;
pub(crate) use machine::{Input, Machine};
pub(crate) use owner::sleep_until;
use owner::{Details, OpenInbox, Owner, Publisher};
use registrant::{Granted, Registrant};
pub(crate) use registrant::{later, now};

/// What a caller wants registered, as text.
pub(crate) struct Wish<'a> {
    pub(crate) registrar_uri: &'a str,
    pub(crate) from_uri: &'a str,
    pub(crate) contact_uri: &'a str,
    pub(crate) expires: u32,
    pub(crate) credentials: Option<Credentials>,
}

/// Registers, and hands what is to be kept alive to a task, which `spawn` starts.
pub(crate) async fn register(
    outbound: &Arc<Outbound>,
    wish: Wish<'_>,
    spawn: impl FnOnce(Owner) -> Result<AbortHandle>,
) -> Result<RegistrationHandle> {
    let registrar = uri::registrar("registrar_uri", wish.registrar_uri)?;
    let address_of_record = uri::address_of_record("from_uri", wish.from_uri)?;
    let contact = uri::contact("contact_uri", wish.contact_uri)?;
    outbound.check_next_hop(&registrar)?;
    let (authorizer, has_credentials) = outbound.authorizer_for(wish.credentials.clone());
    let mut registrant = Registrant {
        registrar,
        address_of_record,
        contact,
        authorizer,
        has_credentials,
        call_id: outbound.call_id(),
        from_tag: outbound.tag(),
        cseq: 0,
        asked: wish.expires,
    };
    let granted = registrant.register(outbound).await?;
    keep(outbound, registrant, granted, wish, spawn)
}

fn keep(
    outbound: &Arc<Outbound>,
    registrant: Registrant,
    granted: Granted,
    wish: Wish<'_>,
    spawn: impl FnOnce(Owner) -> Result<AbortHandle>,
) -> Result<RegistrationHandle> {
    let Granted {
        seconds,
        asked_at,
        response,
        transaction_id,
        flow,
    } = granted;
    let inbox = Arc::new(Inbox::default());
    let (details, details_receiver) = watch::channel(Details {
        granted: seconds,
        bound_until: later(asked_at, Duration::from_secs(seconds.into())),
        response,
    });
    let (machine, state) = Machine::new(
        now(),
        seconds,
        asked_at,
        outbound.backoff,
        outbound.jitter(),
    );
    let state = if wish.expires == 0 {
        RegistrationState::Unregistered
    } else {
        state
    };
    let (states, states_receiver) = watch::channel(state);
    let owner = Owner {
        registrant,
        machine,
        flow,
        outbound: outbound.clone(),
        publisher: Publisher { states, details },
        inbox: OpenInbox(inbox.clone()),
    };
    // A binding that was removed has nothing to keep alive.
    let task = if wish.expires == 0 {
        None
    } else {
        Some(spawn(owner)?)
    };
    Ok(RegistrationHandle {
        transaction_id,
        expires: seconds,
        contact_uri: wish.contact_uri.to_owned(),
        registrar_uri: wish.registrar_uri.to_owned(),
        link: Link {
            inbox,
            states: states_receiver,
            details: details_receiver,
            task,
        },
    })
}
