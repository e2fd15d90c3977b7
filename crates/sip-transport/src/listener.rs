//! Accepting connections.

use crate::connection::ConnectionTask;
use crate::metrics::count;
use crate::shared::Shared;
use crate::table::Refusal;
use crate::{Flow, Stream, StreamListener, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// Accepts connections until the transports stop, and owns their tasks.
pub(crate) async fn accept_loop(
    shared: Arc<Shared>,
    mut listener: Box<dyn StreamListener>,
    transport: Transport,
    local: SocketAddr,
) {
    let mut stopping = shared.stopping.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                if let Some(task) = admit(&shared, stream, transport, local) {
                    connections.spawn(task.run());
                }
            }
            Err(error) => {
                count(&shared.counters.accept_errors);
                warn!(%local, %transport, %error, "cannot accept");
                // Too many open files lasts a while; without a pause the failure would be all that we do.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    shared.table.remove_listener(transport, local);
    while connections.join_next().await.is_some() {}
}

fn admit(
    shared: &Arc<Shared>,
    stream: Box<dyn Stream>,
    transport: Transport,
    listener: SocketAddr,
) -> Option<ConnectionTask> {
    // A peer that has gone again already has no address.
    let remote = stream.peer_addr().ok()?;
    let local = stream.local_addr().unwrap_or(listener);
    let permit = match shared.table.admit(Some(remote.ip()), shared.admission()) {
        Ok(permit) => permit,
        Err(refusal) => {
            count(match refusal {
                Refusal::Total => &shared.counters.refused_total,
                Refusal::PerSource => &shared.counters.refused_per_source,
            });
            warn!(peer = %remote, %transport, ?refusal, "connection refused: too many");
            return None;
        }
    };
    count(&shared.counters.connections_accepted);
    let flow = Flow {
        id: shared.table.next_id(),
        transport,
        remote,
    };
    debug!(peer = %remote, flow = %flow.id, %transport, "connection accepted");
    Some(ConnectionTask::enter(shared, stream, flow, local, permit))
}

/// Time between two tries to accept when one has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
