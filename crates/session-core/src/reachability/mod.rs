//! Whether a target can be reached, asked with OPTIONS again and again (RFC 3261 §11).

mod handle;
mod owner;
mod pace;

use std::sync::Arc;
use std::time::Duration;

use sipora_message::Uri;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

pub use handle::{Reachability, ReachabilityHandle, ReachabilityStates};

use crate::outgoing::Outbound;
use crate::{Error, Result};
use owner::{Owner, Told};
use pace::Pace;

/// Begins to ask; `spawn` starts the task that does.
pub(crate) fn watch_reachability(
    outbound: &Arc<Outbound>,
    target: Uri,
    interval: Duration,
    spawn: impl FnOnce(Owner) -> Result<AbortHandle>,
) -> Result<ReachabilityHandle> {
    if !(SHORTEST..=LONGEST).contains(&interval) {
        return Err(Error::setting("interval", "is 1 s to a day"));
    }
    let (states, receiver) = watch::channel(Reachability::Unknown);
    let probe = Arc::<Notify>::default();
    let task = spawn(Owner {
        target: target.clone(),
        outbound: outbound.clone(),
        pace: Pace::new(interval),
        probe: probe.clone(),
        told: Told(states),
    })?;
    Ok(ReachabilityHandle::new(target, receiver, probe, task))
}

/// More often is a flood.
const SHORTEST: Duration = Duration::from_secs(1);

/// More is a mistake.
const LONGEST: Duration = Duration::from_secs(86_400);
