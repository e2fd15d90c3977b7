//! Accepting connections.

use crate::connection::ConnectionTask;
use crate::handshake;
use crate::metrics::count;
use crate::pace::Pace;
use crate::shared::Shared;
use crate::table::{Permit, Refusal, Route};
use crate::{Flow, Stream, StreamListener, Transport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

/// Accepts connections until the transports stop, and owns their tasks.
pub(crate) async fn accept_loop(
    shared: Arc<Shared>,
    mut listener: Box<dyn StreamListener>,
    transport: Transport,
    local: SocketAddr,
) {
    let mut stopping = shared.stopping.subscribe();
    let mut connections = JoinSet::new();
    let failures = Pace::default();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                if let Some(admitted) = admit(&shared, stream, transport, local) {
                    connections.spawn(serve(shared.clone(), admitted));
                }
            }
            Err(error) => {
                count(&shared.counters.accept_errors);
                if let Some(held_back) = failures.admit(shared.network.now().instant) {
                    warn!(%local, %transport, %error, held_back, "cannot accept");
                }
                // Too many open files lasts a while; without a pause the failure would be all that we do.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    shared.table.remove_listener(transport, local);
    while connections.join_next().await.is_some() {}
}

/// A connection that has its place, and may have a handshake before it.
struct Admitted {
    stream: Box<dyn Stream>,
    flow: Flow,
    local: SocketAddr,
    permit: Permit,
}

fn admit(
    shared: &Shared,
    stream: Box<dyn Stream>,
    transport: Transport,
    listener: SocketAddr,
) -> Option<Admitted> {
    // A peer that has gone again already has no address.
    let remote = stream.peer_addr().ok()?;
    let local = stream.local_addr().unwrap_or(listener);
    let permit = match shared.table.admit(Some(remote.ip()), shared.admission()) {
        Ok(permit) => permit,
        Err(refusal) => {
            let (counters, paces) = (&shared.counters, &shared.paces);
            let (counter, pace) = match refusal {
                Refusal::Total => (&counters.refused_total, &paces.refused_total),
                Refusal::PerSource => (&counters.refused_per_source, &paces.refused_per_source),
            };
            count(counter);
            if let Some(held_back) = pace.admit(shared.network.now().instant) {
                warn!(peer = %remote, %transport, ?refusal, held_back, "connection refused: too many");
            }
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
    Some(Admitted {
        stream,
        flow,
        local,
        permit,
    })
}

/// Shakes hands, and is the connection's task from then on. A connection whose handshake fails was none, and nobody is told.
async fn serve(shared: Arc<Shared>, admitted: Admitted) {
    let Admitted {
        stream,
        flow,
        local,
        permit,
    } = admitted;
    let mut stopping = shared.stopping.subscribe();
    let established = tokio::select! {
        biased;
        established = handshake::accept(&shared, stream, flow.transport) => established,
        _ = stopping.wait_for(|stopping| *stopping) => return,
    };
    let established = match established {
        Ok(established) => established,
        Err(error) => {
            count(&shared.counters.handshakes_failed);
            if error.kind() == std::io::ErrorKind::TimedOut {
                count(&shared.counters.handshakes_timed_out);
            }
            debug!(peer = %flow.remote, flow = %flow.id, transport = %flow.transport, %error, "handshake failed");
            let now = shared.network.now().instant;
            if handshake::is_visit(&error) {
                if let Some(held_back) = shared.paces.visits.admit(now) {
                    info!(peer = %flow.remote, transport = %flow.transport, %error, held_back, "no WebSocket was asked for");
                }
            } else if let Some(held_back) = shared.paces.handshakes.admit(now) {
                warn!(peer = %flow.remote, transport = %flow.transport, %error, held_back, "handshake failed");
            }
            return;
        }
    };
    let route = Route::back(&flow);
    ConnectionTask::enter(&shared, established, flow, route, local, permit)
        .run()
        .await;
}

/// Time between two tries to accept when one has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
