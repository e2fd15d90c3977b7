//! A UDP socket in the hands of a driver.

use crate::{FlowId, Inbound};
use std::net::SocketAddr;
use std::task::{Context, Poll};

/// Receives the messages of one UDP socket. Whoever holds it polls it; dropped, the socket closes.
#[derive(Debug)]
pub struct UdpListener {
    _private: (),
}

impl UdpListener {
    /// Returns the id of the flows over this socket.
    pub fn id(&self) -> FlowId {
        unimplemented!()
    }

    /// Returns the address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Waits for the next. May be cancelled without loss.
    pub async fn recv(&mut self) -> Inbound {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Polls for the next.
    pub fn poll_recv(&mut self, _cx: &mut Context<'_>) -> Poll<Inbound> {
        unimplemented!()
    }

    /// Appends up to `limit` at once to `batch` and returns how many; pending when there is none.
    pub fn poll_recv_batch(&mut self, _cx: &mut Context<'_>, _batch: &mut Vec<Inbound>, _limit: usize) -> Poll<usize> {
        unimplemented!()
    }
}
