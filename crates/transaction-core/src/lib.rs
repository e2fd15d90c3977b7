//! SIP transactions: the state machines of RFC 3261 §17 without I/O, and a tokio driver for them.
//!
//! The two main types are [`TransactionLayer`], a core that takes messages and time and gives back bytes and events, and
//! [`Endpoint`], which runs that core over the flows of `sipora-transport` and hands requests to [`User`]s.
//! [`TransactionManager`] is an awaitable front for programs that only send requests; the README shows it.
//!
//! The core alone, with a clock of its own:
//!
//! ```
//! use sipora_message::{Message, Method, Request, Response, StatusCode, Uri};
//! use sipora_transaction_core::{
//!     Config, Event, IdSource, Open, OutgoingRequest, Owner, TransactionLayer,
//! };
//! use sipora_transport::{Destination, Flow, FlowId, Now, Transport};
//! use std::time::Duration;
//!
//! let mut core = TransactionLayer::new(Config::default(), IdSource::unpredictable());
//! let mut now = Now::from_system();
//!
//! let request = Request::builder(Method::Options, &Uri::parse("sip:bob@192.0.2.2")?)
//!     .max_forwards(70)
//!     .from("<sip:alice@example.com>;tag=1")
//!     .to("<sip:bob@example.com>")
//!     .call_id("a84b4c76e66710")
//!     .cseq(1)
//!     .build()?;
//! let target = Destination::udp("192.0.2.2:5060".parse()?);
//! let id = core.send_request(now, OutgoingRequest::new(request, target, Owner(0)))?;
//!
//! // The core asks for a flow, and then has something to send on it.
//! let Some(Open::Destination(attempt, target)) = core.poll_open() else { panic!() };
//! let flow = Flow { id: FlowId::from_u64(1), transport: Transport::Udp, remote: target.address };
//! core.flow_ready(now, attempt, flow, "192.0.2.1:5060".parse::<std::net::SocketAddr>()?.into());
//! let first = core.poll_transmit().expect("the request");
//!
//! // Half a second later it sends it again.
//! now.instant += Duration::from_millis(500);
//! core.handle_timeout(now);
//! assert_eq!(core.poll_transmit().expect("a retransmission").bytes, first.bytes);
//!
//! // Then the answer comes.
//! let sent = Request::parse(first.bytes, &Default::default())?;
//! let answer = Response::for_request(&sent, StatusCode::OK).to_tag("2").build()?;
//! assert!(core.handle_message(now, Message::Response(answer), flow).is_none());
//! assert!(matches!(core.poll_event(), Some((Owner(0), Event::Response { request, .. })) if request == id));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | default | what |
//! | --- | --- | --- |
//! | `tls-ring` | off | TLS with the cryptography of `ring`, for the endpoint |
//! | `tls-aws-lc-rs` | off | TLS with the cryptography of `aws-lc-rs` |
//! | `dns` | off | `sipora_transport::DnsResolver`, for [`EndpointBuilder::resolver`] |
//! | `ws` | off | WebSocket; `wss` with one of the above |
//!
//! # RFC sections
//!
//! | section | what | where |
//! | --- | --- | --- |
//! | RFC 3261 §17.1.1, RFC 6026 §8.4 | INVITE client transaction, ACK of refusals | [`TransactionLayer::send_request`] |
//! | RFC 3261 §17.1.2 | non-INVITE client transaction | [`TransactionLayer::send_request`] |
//! | RFC 3261 §17.2.1, RFC 6026 §7.1 | INVITE server transaction, 100 after 200 ms, Accepted | [`TransactionLayer::respond`] |
//! | RFC 3261 §17.2.2, RFC 4320 | non-INVITE server transaction; no early 100, no 1xx, no 408 | [`TransactionLayer::respond`] |
//! | RFC 3261 §17.1.3, §17.2.3 | matching, with RFC 2543 peers too | [`TransactionLayer::handle_message`] |
//! | RFC 3261 §9 | CANCEL, both sides | [`TransactionLayer::cancel`], [`Event::Cancelled`] |
//! | RFC 3263 §4.3 | the next target after a failure | [`OutgoingRequest::targets`] |
//! | RFC 3263 §4.3, RFC 3261 §21.5.4 | targets that failed come last for a while | [`Config::avoid`] |
//! | RFC 3261 §18.1.1 | large requests over TCP | [`Config::datagram_limit`] |
//! | RFC 3261 §18.2.2, RFC 3581 | where responses go, a new connection when theirs is gone | [`Endpoint`] |
//! | RFC 3261 §8.2 | answers to requests that nobody takes | [`default_answer`] |
//! | RFC 3261 §16.6, §16.8 | Timer C | [`RequestOptions::timer_c`] |
//! | RFC 3261 §8.2.2.2 | merged requests, for users that want it | [`User::refuses_merged`] |
//! | RFC 3261 §8.2.7 | stateless answers with keyed To tags | [`TransactionLayer::respond_stateless`] |
//!
//! # Shards
//!
//! An endpoint is one task unless [`EndpointConfig::shards`] asks for more. Then each shard has UDP sockets, transactions and
//! users of its own ([`EndpointBuilder::add_users`]), and [`owner`] says which of them a message belongs to.
#![forbid(unsafe_code)]

mod answers;
mod attempts;
mod avoid;
mod config;
mod endpoint;
mod error;
mod event;
mod ids;
mod key;
mod layer;
mod machine;
mod manager;
mod merged;
mod metrics;
mod packed;
mod server;
mod shelf;
mod slab;
mod timers;

pub use answers::default_answer;
pub use attempts::OutgoingRequest;
pub use config::{Config, Timers};
pub use endpoint::{
    Claim, Context, Endpoint, EndpointBuilder, EndpointConfig, EndpointHandle, RequestOptions,
    Target, User, UserHandle, owner,
};
pub use error::{
    CommandError, EndpointError, Gone, RequestError, SendError, TransactionError, TransportFailure,
};
pub use event::{Event, IncomingRequest, Open, Owner, Purpose, Transmit};
pub use ids::{AttemptId, Branch, CallId, IdSource, RequestId, ServerTransactionId, Tag};
pub use layer::TransactionLayer;
pub use manager::{TransactionId, TransactionManager};
pub use metrics::Metrics;
pub use sipora_transport::{Direction, MessageObserver, Observed};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
