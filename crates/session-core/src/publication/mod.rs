//! Publications: event state put at a server, kept there, changed, removed (RFC 3903).

mod handle;
mod owner;
mod publisher;

use std::sync::Arc;
use std::time::Duration;

pub use handle::{PublicationHandle, PublicationState, PublicationStates};
pub(crate) use owner::Owner;
pub(crate) use publisher::Document;

use sipora_message::Uri;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::outgoing::Outbound;
use crate::registration::{Machine, later, now};
use crate::{Error, Result};
use handle::Link;
use owner::Details;
use publisher::{Published, Publisher};

/// Publishes, and hands what is to be kept alive to a task, which `spawn` starts.
pub(crate) async fn publish(
    outbound: &Arc<Outbound>,
    target: Uri,
    event: &str,
    document: Document,
    expires: u32,
    spawn: impl FnOnce(Owner) -> Result<AbortHandle>,
) -> Result<PublicationHandle> {
    if expires == 0 {
        let reason = "what is published lasts some time (RFC 3903 §4.2)";
        return Err(Error::request("Expires", reason));
    }
    let mut publisher = Publisher {
        call_id: outbound.call_id(),
        from_tag: outbound.tag(),
        cseq: 0,
        target,
        event: event.to_owned(),
        document,
        tag: None,
        asked: expires,
    };
    let Published {
        seconds,
        asked_at,
        response,
    } = publisher.publish(outbound).await?;
    let (machine, state) = Machine::new(
        now(),
        seconds,
        asked_at,
        outbound.backoff,
        outbound.jitter(),
    );
    let (operations, receiver) = mpsc::channel(OPERATIONS);
    let (states, states_receiver) = watch::channel(state.into());
    let (details, details_receiver) = watch::channel(Details {
        granted: seconds,
        until: later(asked_at, Duration::from_secs(seconds.into())),
        tag: publisher.tag.clone(),
        response,
    });
    let target = publisher.target.clone();
    let task = spawn(Owner {
        publisher,
        machine,
        outbound: outbound.clone(),
        operations: receiver,
        told: owner::Told { states, details },
        is_behind: false,
    })?;
    Ok(PublicationHandle {
        link: Link {
            operations,
            states: states_receiver,
            details: details_receiver,
            task,
        },
        target,
        event: event.to_owned(),
    })
}

/// Operations that wait for one publication; more wait outside.
const OPERATIONS: usize = 4;
