//! SIP flows over UDP and TCP behind one network trait.

#![deny(unsafe_code)]

mod config;
mod connection;
mod destination;
mod error;
mod flow;
mod inbound;
mod listener;
mod local;
mod metrics;
mod network;
mod now;
mod resolver;
mod sent_by;
mod shared;
mod sys;
mod table;
mod tokio_network;
mod transport;
mod transports;
mod udp;
mod via;

pub use config::{Advertised, TransportConfig};
pub use destination::Destination;
pub use error::{BindError, OpenError, SendError};
pub use flow::{CloseReason, Flow, FlowId};
pub use inbound::{Inbound, InboundReceiver, Malformed, Payload};
pub use metrics::Metrics;
pub use network::{Datagram, DatagramReceiver, DatagramSender, DatagramSocket, Network, Stream, StreamListener};
pub use now::Now;
pub use resolver::{ResolveError, Resolver, StaticResolver, SystemResolver};
pub use sent_by::SentBy;
pub use tokio_network::TokioNetwork;
pub use transport::Transport;
pub use transports::Transports;
pub use udp::UdpListener;
pub use via::{ResponseRoute, response_destination, response_route, stamp};
