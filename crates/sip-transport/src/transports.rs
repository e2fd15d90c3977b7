//! The one table of flows.

use crate::{
    BindError, Destination, Flow, FlowId, InboundReceiver, Metrics, Network, Now, OpenError, SendError, SentBy, Transport,
    TransportConfig, UdpListener,
};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;

/// Owns every flow: binds, connects, sends. Cheap to clone; the last clone dropped closes everything.
#[derive(Debug, Clone)]
pub struct Transports {
    _private: (),
}

impl Transports {
    /// Makes an empty table over a network. Messages from connections come out of the receiver.
    pub fn new(_network: Arc<dyn Network>, _config: TransportConfig) -> (Transports, InboundReceiver) {
        unimplemented!()
    }

    /// Returns the network.
    pub fn network(&self) -> &Arc<dyn Network> {
        unimplemented!()
    }

    /// Reads the network's clock.
    pub fn now(&self) -> Now {
        self.network().now()
    }

    /// Binds `sockets` UDP sockets, one for each shard, to one address. They share the port, not the id.
    pub fn bind_udp(&self, _address: SocketAddr, _sockets: usize) -> Result<Vec<UdpListener>, BindError> {
        unimplemented!()
    }

    /// Listens for TCP connections and returns the address with its real port.
    pub fn listen_tcp(&self, _address: SocketAddr) -> Result<SocketAddr, BindError> {
        unimplemented!()
    }

    /// Binds UDP and TCP to the same port, which port 0 lets the network choose.
    pub fn bind_udp_and_tcp(&self, _address: SocketAddr, _sockets: usize) -> Result<Vec<UdpListener>, BindError> {
        unimplemented!()
    }

    /// Returns what is listened on.
    pub fn listeners(&self) -> Vec<(Transport, SocketAddr)> {
        unimplemented!()
    }

    /// Gives a flow to a destination: a live connection if there is one (RFC 3261 §18.1.1), else a new one. Those who ask
    /// for the same at once share one attempt, which goes on though one of them gives up.
    pub async fn open(&self, _destination: &Destination) -> Result<Flow, OpenError> {
        unimplemented!()
    }

    /// Gives a flow that needs no waiting: UDP, or a connection that is open.
    pub fn existing(&self, _destination: &Destination) -> Option<Flow> {
        unimplemented!()
    }

    /// Queues a message on a flow, or fails at once. Never waits: a full connection is cut off, a full socket drops the
    /// datagram as the network might.
    pub fn try_send(&self, _flow: &Flow, _message: Bytes) -> Result<(), SendError> {
        unimplemented!()
    }

    /// Tells whether a flow can still be sent on.
    pub fn is_open(&self, _flow: FlowId) -> bool {
        unimplemented!()
    }

    /// Returns our address on a flow, as bound: a wildcard for a socket that is bound to one.
    pub fn local_addr(&self, _flow: &Flow) -> Option<SocketAddr> {
        unimplemented!()
    }

    /// Returns what a Via sent on the flow must carry: the advertised host, or an address of ours that its peer can reach,
    /// and the port we listen on.
    pub fn sent_by(&self, _flow: &Flow) -> SentBy {
        unimplemented!()
    }

    /// Closes a connection once what is queued on it has been written. UDP flows stay.
    pub fn close(&self, _flow: FlowId) {
        unimplemented!()
    }

    /// Returns what has been counted.
    pub fn metrics(&self) -> Metrics {
        unimplemented!()
    }

    /// Stops listening, writes what is queued, closes every connection and waits for their tasks.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
