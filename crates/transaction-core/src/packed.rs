//! A flow in two thirds of the memory, for what there are hundreds of thousands of.

use sipora_transport::{Flow, FlowId, Transport};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Holds a [`Flow`]; the flow information of an IPv6 address, which nobody answers to, is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedFlow {
    id: FlowId,
    ip: Ipv6Addr,
    scope: u32,
    port: u16,
    pub(crate) transport: Transport,
    is_v4: bool,
}

impl From<Flow> for PackedFlow {
    fn from(flow: Flow) -> Self {
        let (ip, scope) = match flow.remote {
            SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(address) => (*address.ip(), address.scope_id()),
        };
        Self {
            id: flow.id,
            ip,
            scope,
            port: flow.remote.port(),
            transport: flow.transport,
            is_v4: flow.remote.is_ipv4(),
        }
    }
}

impl From<PackedFlow> for Flow {
    fn from(packed: PackedFlow) -> Self {
        let v4 = packed.ip.to_ipv4_mapped().filter(|_| packed.is_v4);
        let remote = match v4 {
            Some(ip) => SocketAddr::new(IpAddr::V4(ip), packed.port),
            None => SocketAddrV6::new(packed.ip, packed.port, 0, packed.scope).into(),
        };
        Self {
            id: packed.id,
            transport: packed.transport,
            remote,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_comes_out_as_it_went_in() {
        for remote in [
            "192.0.2.1:5060",
            "[2001:db8::1]:5061",
            "[fe80::1%7]:5060",
            "[::ffff:192.0.2.1]:5060",
        ] {
            let flow = Flow {
                id: FlowId::from_u64(u64::MAX),
                transport: Transport::Wss,
                remote: remote.parse().unwrap(),
            };
            assert_eq!(Flow::from(PackedFlow::from(flow)), flow);
        }
        assert_eq!(size_of::<PackedFlow>(), 32);
    }
}
