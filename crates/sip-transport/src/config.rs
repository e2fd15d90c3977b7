//! Settings and limits of the flows.

use crate::Tls;
use sipora_message::Limits;
use std::time::Duration;

/// Holds the settings and limits of [`Transports`](crate::Transports). Each limit has a counter in
/// [`Metrics`](crate::Metrics).
///
/// ```
/// let config = sipora_transport::TransportConfig { max_connections: 50_000, ..Default::default() };
/// assert_eq!(config.max_connections_per_source, 2_500);
/// ```
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// What Via and Contact carry instead of our own address, such as the outside of a NAT. Default none.
    pub advertised: Option<Advertised>,
    /// Certificates, keys and roots for TLS. Default none: connections within TLS are neither accepted nor opened.
    pub tls: Option<Tls>,
    /// Connections in all, accepted and opened. Default 10,000: a quarter of a gigabyte when every one of them buffers a
    /// message, and under the usual limit of open files once that is raised for a server.
    pub max_connections: usize,
    /// Accepted connections from one source: an IPv4 address, or an IPv6 network of 64 bits, which is what one subscriber has.
    /// Default 2,500: an office behind one NAT fits; four sources are needed to fill the table.
    pub max_connections_per_source: usize,
    /// Time to open a connection. Default 8 s: three retransmissions of a SYN (1, 3 and 7 s), a quarter of Timer B.
    pub connect_timeout: Duration,
    /// Time for the handshake on a new connection, TLS or WebSocket. Default 10 s: some round trips over a slow mobile link,
    /// two of whose packets are lost.
    pub handshake_timeout: Duration,
    /// Time from the first byte of a message to its last. Default 10 s: a megabyte over a slow mobile link.
    pub partial_message_timeout: Duration,
    /// Time without a byte in either direction after which a connection is closed. Default 2 h 10 min: longer than the
    /// longest registration that registrars grant by default, so that a client that only refreshes keeps its connection.
    pub idle_timeout: Duration,
    /// Time in which a peer that connected to us has to send its first byte. Default 30 s: whoever connects has something
    /// to say.
    pub first_byte_timeout: Duration,
    /// Time that a connection is kept for the answers to its requests once its peer has said that no more will come, and
    /// only listens (TCP's half-close). Default 32 s: an answer to any request but INVITE comes by then, or never.
    pub half_closed_timeout: Duration,
    /// Time between two pings on a connection that we opened: CRLF CRLF (RFC 5626 §4.4.1), on WebSocket a ping of its own. Each
    /// wait is a random one between 80 and 100 % of it. Default none, as a server that does not know them would not answer;
    /// RFC 5626 recommends 120 s. [`Transports::keep_alive`](crate::Transports::keep_alive) sets it for one connection.
    pub keep_alive: Option<Duration>,
    /// Time between two pings on a WebSocket connection that we accepted. Default 30 s: browsers cannot ping, and proxies of
    /// the web close what is silent for a minute.
    pub web_socket_ping: Option<Duration>,
    /// Time in which a ping of ours has to be answered. Default 10 s, as RFC 5626 §4.4.1 says.
    pub pong_timeout: Duration,
    /// STUN Binding requests that are answered in a second, on all UDP sockets together. Default 10,000: keep-alives of a quarter
    /// of a million devices, and some megabytes a second at most for who forges them.
    pub stun_answers: u32,
    /// The path that WebSocket servers are asked for, as no SIP URI says it. Default `/`. Ours take any.
    pub web_socket_path: Box<str>,
    /// Time in which a peer must take some of what waits for it. Default 10 s.
    pub write_timeout: Duration,
    /// Time that a connection is kept after a message whose end is unknown, for a 400 to leave and the peer to read it.
    /// Default 1 s.
    pub linger: Duration,
    /// Bytes that wait to be written on one connection. Default 2 MiB: one message of the largest size, and as much again.
    pub out_buffer_bytes: usize,
    /// Messages that wait to be written on one connection. Default 1,024.
    pub out_queue: usize,
    /// Messages from connections that wait for a shard of the driver, after which they are not read any more. Default 128: some
    /// milliseconds of its work, for which those wait who ask once beside those who ask all the time.
    pub inbound_queue: usize,
    /// Peers whose way (our address towards them) is remembered. Default 4,096; past it the memory starts anew.
    pub local_address_cache: usize,
    /// What the times of keep-alives and the names of STUN requests follow from, so that a test can be played again. Default none:
    /// nobody can predict them.
    pub seed: Option<u64>,
    /// Sizes of messages, refused past them.
    pub message: Limits,
}

/// Holds the address that is told to peers instead of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// A name or an address; an IPv6 address with or without brackets.
    pub host: Box<str>,
    /// The port. Without one the listener's own.
    pub port: Option<u16>,
}

impl Default for TransportConfig {
    fn default() -> TransportConfig {
        TransportConfig {
            advertised: None,
            tls: None,
            max_connections: 10_000,
            max_connections_per_source: 2_500,
            connect_timeout: Duration::from_secs(8),
            handshake_timeout: Duration::from_secs(10),
            partial_message_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(7_800),
            first_byte_timeout: Duration::from_secs(30),
            half_closed_timeout: Duration::from_secs(32),
            keep_alive: None,
            web_socket_ping: Some(Duration::from_secs(30)),
            pong_timeout: Duration::from_secs(10),
            stun_answers: 10_000,
            web_socket_path: "/".into(),
            write_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(1),
            out_buffer_bytes: 2 * 1024 * 1024,
            out_queue: 1_024,
            inbound_queue: 128,
            local_address_cache: 4_096,
            seed: None,
            message: Limits::default(),
        }
    }
}
