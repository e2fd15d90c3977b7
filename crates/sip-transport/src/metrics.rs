//! Counters.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Holds what has been counted so far. All but the gauges only grow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Metrics { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Metrics {
                Metrics { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Datagrams received, keep-alives included.
    datagrams_received,
    /// Datagrams handed to the operating system.
    datagrams_sent,
    /// Datagrams dropped because the socket had no room.
    datagrams_dropped,
    /// Empty or CRLF datagrams ignored.
    keep_alives_ignored,
    /// STUN Binding requests answered (RFC 5626 §8).
    stun_answered,
    /// STUN datagrams dropped: malformed, or more in a second than are answered.
    stun_dropped,
    /// STUN Binding requests of ours, retransmissions included.
    stun_sent,
    /// UDP flows of which STUN found that they do not live any more.
    stun_failures,
    /// Reports that a datagram did not arrive.
    unreachable,
    /// Datagrams dropped because they were no answers, at a socket that is there for answers alone.
    requests_unwanted,
    /// Errors of UDP sockets that concern no peer.
    socket_errors,
    /// Messages received over connections.
    stream_messages_received,
    /// Messages queued on connections.
    stream_messages_sent,
    /// CRLF pings answered (RFC 5626 §4.4.1).
    pings_answered,
    /// Pings of ours, CRLF or of WebSocket.
    pings_sent,
    /// Connections given up because a ping of ours was not answered in time.
    pongs_missed,
    /// Messages that could not be parsed, over any transport.
    malformed,
    /// Responses discarded because their top Via is not ours (RFC 3261 §18.1.2).
    responses_misdirected,
    /// Connections accepted.
    connections_accepted,
    /// Connections opened by us.
    connections_opened,
    /// Connections whose peer proved who it is and wants requests over them (RFC 5923).
    aliases,
    /// Connections that could not be opened.
    connections_failed,
    /// Connections, of either kind, whose handshake (TLS, WebSocket) failed or took too long.
    handshakes_failed,
    /// Those of them that took too long, among the connections that we accepted.
    handshakes_timed_out,
    /// Connections open now (a gauge).
    connections_open,
    /// Connections refused because there are too many in all.
    refused_total,
    /// Connections refused because there are too many from their source.
    refused_per_source,
    /// Failures to accept, such as too many open files.
    accept_errors,
    /// Connections cut off because the peer reads too slowly.
    slow_readers,
    /// Connections that the operating system gave up because the peer took nothing of what was sent to it, or answered no probe: it
    /// has gone, or reads too slowly.
    timed_out,
    /// Connections closed because nothing went over them.
    idle_closed,
    /// Connections closed because the keep-alives that their peer was to send did not come.
    silent_closed,
    /// Connections closed because a message was not finished in time.
    partial_messages,
    /// Connections closed because the bytes could not be divided into messages.
    framing_errors,
    /// Times that the memory of our address towards peers was full and started anew.
    local_address_cache_resets,
    /// Datagrams to addresses of ours beyond the 1,024 that UDP flows are told apart by.
    local_addresses_unnamed,
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
