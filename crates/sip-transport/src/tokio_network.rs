//! The operating system's network, through tokio.

use crate::{DatagramSocket, Network, Now, Stream, StreamListener};
use async_trait::async_trait;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Is the operating system's network.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioNetwork {
    _private: (),
}

impl TokioNetwork {
    /// Makes the network. Its sockets must be made inside a tokio runtime.
    pub const fn new() -> TokioNetwork {
        TokioNetwork { _private: () }
    }
}

#[async_trait]
impl Network for TokioNetwork {
    fn now(&self) -> Now {
        unimplemented!()
    }

    fn local_ip_for(&self, _remote: SocketAddr) -> io::Result<IpAddr> {
        unimplemented!()
    }

    fn bind_datagram(&self, _local: SocketAddr, _sockets: usize) -> io::Result<Vec<DatagramSocket>> {
        unimplemented!()
    }

    fn listen(&self, _local: SocketAddr) -> io::Result<Box<dyn StreamListener>> {
        unimplemented!()
    }

    async fn connect(&self, _local: Option<IpAddr>, _remote: SocketAddr) -> io::Result<Box<dyn Stream>> {
        unimplemented!()
    }
}
