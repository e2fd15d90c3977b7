//! SIP flows over UDP, TCP, TLS and WebSocket behind one network trait (RFC 3261 §18).
//!
//! [`Transports`] is the one table of flows: it binds UDP sockets and TCP listeners, opens connections and uses them again,
//! and sends on any [`Flow`] without ever waiting. What comes in is a whole, stamped message: from each [`UdpListener`] that
//! the driver polls itself, and from an [`InboundReceiver`] for all connections together. Underneath lies a [`Network`]:
//! [`TokioNetwork`] is the operating system's; tests bring a simulated one.
//!
//! ```
//! use sipora_message::{Message, Method, Request, Response, StatusCode, Uri};
//! use sipora_transport::{Destination, Payload, TokioNetwork, TransportConfig, Transports, response_route};
//! use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (transports, _connections) = Transports::new(Arc::new(TokioNetwork::new()), TransportConfig::default());
//! let mut socket = transports.bind_udp("127.0.0.1:0".parse()?, 1)?.remove(0);
//!
//! // To ourselves, as nobody else is here.
//! let flow = transports.open(&Destination::udp(socket.local_addr())).await?;
//! let request = Request::builder(Method::Options, &Uri::parse("sip:bob@example.com")?)
//!     .from("<sip:alice@example.com>;tag=1")
//!     .to("<sip:bob@example.com>")
//!     .call_id("a84b4c76e66710")
//!     .cseq(1)
//!     .build()?
//!     .with_top_via(&format!("SIP/2.0/UDP {};branch=z9hG4bK1;rport", transports.sent_by(&flow)));
//! transports.try_send(&flow, request.to_bytes())?;
//!
//! let inbound = socket.recv().await;
//! let Payload::Message(Message::Request(request)) = inbound.payload else { panic!("a request was sent") };
//! let response = Response::for_request(&request, StatusCode::OK).to_tag("2").build()?;
//! transports.try_send(&response_route(&request, &inbound.flow).flow, response.to_bytes())?;
//!
//! let inbound = socket.recv().await;
//! let Payload::Message(Message::Response(response)) = inbound.payload else { panic!("a response was sent") };
//! assert_eq!(response.status(), StatusCode::OK);
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! - [`Transports::try_send`] never waits. A peer that reads too slowly is cut off; a socket without room drops the datagram,
//!   as the network might.
//! - A [`FlowId`] of a closed connection never resolves again, and the end of every connection is reported.
//! - Every buffer, table and queue has a bound in [`TransportConfig`], and a counter in [`Metrics`].
//! - An occupied port is an error, whoever has it.
//!
//! # TLS
//!
//! A [`TlsConfig`] becomes a [`Tls`], which goes into [`TransportConfig::tls`]; [`Transports::listen`] and
//! [`Transports::open`] do the rest. A server is believed when its certificate leads to one of the roots and is for
//! [`Destination::server_name`], which a [`Resolver`] takes from the URI before any DNS lookup (RFC 5922 §7.3): what DNS says
//! decides where a request goes, and never whom to believe. [`Tls::reload`] reads renewed certificates without dropping a
//! connection. The provider of cryptography is named in the settings, and none is installed for the process. Certificates
//! are not looked up in lists of revoked ones.
//!
//! # Connections that die without a word
//!
//! A NAT forgets a connection, a machine loses its power: nothing is closed, and what is sent is lost. With
//! [`TransportConfig::keep_alive`], or [`Transports::keep_alive`] for one of them, connections that we opened are pinged, and
//! the end of one whose pong does not come within ten seconds is reported as [`CloseReason::NoPong`]. WebSocket connections
//! are pinged by the side that accepted them too ([`TransportConfig::web_socket_ping`]).
//!
//! Over UDP, [`Transports::stun_keep_alive`] asks a peer by STUN, and ends when it does not answer, or sees us at another
//! address than before. STUN Binding requests to our own UDP sockets are answered; they are not shown to anybody.
//!
//! # Features
//!
//! | feature | default | what |
//! | --- | --- | --- |
//! | `tls-ring` | off | TLS with the cryptography of `ring` |
//! | `tls-aws-lc-rs` | off | TLS with the cryptography of `aws-lc-rs` |
//! | `ws` | off | WebSocket; `wss` with one of the above |
//! | `dns` | off | `DnsResolver`: NAPTR and SRV records, with a cache |
//! | `force-portable` | off | builds on Linux what other systems get: no ICMP reports. For this crate's tests |
//!
//! # RFC sections
//!
//! | section | what | where |
//! | --- | --- | --- |
//! | RFC 3261 §7.5, §18.3 | framing; malformed messages | [`Payload::Malformed`] |
//! | RFC 3261 §18.1.1 | `sent-by`; connections are used again | [`Transports::sent_by`], [`Transports::open`] |
//! | RFC 3261 §18.1.2 | responses whose top Via is not ours are discarded | [`Metrics::responses_misdirected`] |
//! | RFC 3261 §18.2.1 | `received` | [`stamp`] |
//! | RFC 3261 §18.2.2 | the way of a response; `maddr` for multicast groups only | [`response_route`] |
//! | RFC 3261 §26.2.1, §26.3.1 | TLS; a connection to one domain carries nothing to another | [`Tls`], [`Transports::open`] |
//! | RFC 3261 §18.4 | ICMP errors (Linux) | [`Payload::Unreachable`] |
//! | RFC 3263 §4 | numeric hosts, ports, `transport`, `maddr`, A and AAAA | [`Resolver`] |
//! | RFC 3263 §4.1, §4.2, RFC 2782, RFC 3403 | NAPTR and SRV records | `DnsResolver` |
//! | RFC 3581 §4 | `rport` | [`stamp`], [`response_route`] |
//! | RFC 5626 §4.4.1 | CRLF pings on connections: sent, answered, missed | [`Transports::keep_alive`] |
//! | RFC 5626 §4.4 | a peer whose keep-alives stay away is taken for gone | [`Transports::expect_keep_alives`] |
//! | RFC 5626 §4.4.2, §8, RFC 5389 | STUN Binding requests on UDP: answered, sent, missed | [`Transports::stun_keep_alive`] |
//! | RFC 5923 | connections of TLS that we accepted carry requests back to domains that the peer has proved to be | [`SentBy::alias`] |
//! | RFC 5922 §7 | SIP domains in certificates; no wildcards | [`TlsConfig`], [`Transports::peer_domains`] |
//! | RFC 7118 | WebSocket, its subprotocol `sip`, its pings | [`Transport::Ws`], [`TransportConfig::web_socket_ping`] |
//! | RFC 6066 §3 | the name that a client wants, on either side | [`TlsConfig::certificate`] |

#![deny(unsafe_code)]
#![cfg_attr(
    any(not(target_os = "linux"), feature = "force-portable"),
    forbid(unsafe_code)
)]

mod config;
mod connection;
mod destination;
#[cfg(feature = "dns")]
mod dns;
mod error;
mod failures;
mod flow;
mod handshake;
mod inbound;
mod listener;
mod local;
mod metrics;
mod network;
mod now;
mod observer;
mod pace;
mod plain_via;
mod random;
mod resolver;
mod sent_by;
mod shared;
mod stun;
mod sys;
mod table;
mod tls;
mod tokio_network;
pub mod trace;
mod transport;
mod transports;
mod udp;
mod via;

pub use config::{Advertised, TransportConfig};
pub use destination::Destination;
#[cfg(feature = "dns")]
pub use dns::DnsResolver;
pub use error::{BindError, OpenError, SendError};
pub use flow::{CloseReason, Flow, FlowId};
pub use inbound::{Inbound, InboundReceiver, Malformed, Payload};
pub use metrics::Metrics;
pub use network::{
    Datagram, DatagramReceiver, DatagramSender, DatagramSocket, Network, Stream, StreamListener,
};
pub use now::Now;
pub use observer::{Direction, MessageObserver, Observed};
pub use resolver::{ResolveError, Resolver, StaticResolver, SystemResolver};
pub use sent_by::SentBy;
pub use stun::StunFailure;
pub use tls::{ClientAuth, Pem, Roots, Tls, TlsConfig, TlsError, TlsProvider};
pub use tokio_network::TokioNetwork;
pub use transport::{Transport, UnknownTransport};
pub use transports::Transports;
pub use udp::UdpListener;
pub use via::{ResponseRoute, response_destination, response_route, stamp};

/// The README's program, which has to compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
