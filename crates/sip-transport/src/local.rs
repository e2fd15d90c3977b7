//! Our own addresses, as our peers see them.

use crate::metrics::{Counters, count};
use crate::shared::Shared;
use crate::{Advertised, FlowId, Network};
use sipora_message::Host;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Remembers from which of our addresses packets leave towards a peer, and which addresses we have told anyone.
#[derive(Debug, Default)]
pub(crate) struct LocalAddresses {
    /// Never iterated, so its order decides nothing.
    towards: Mutex<HashMap<IpAddr, (IpAddr, Instant)>>,
    told: RwLock<Vec<IpAddr>>,
    /// Those that wildcard UDP sockets were written to at. Flows name them by their place, so that none is ever forgotten.
    written_to: RwLock<Vec<IpAddr>>,
}

impl LocalAddresses {
    /// Returns the address that packets to `remote` leave from, by asking the network at most once a minute for each peer.
    pub(crate) fn towards(
        &self,
        remote: SocketAddr,
        network: &dyn Network,
        shared: &Shared,
    ) -> IpAddr {
        let now = network.now().instant;
        let mut towards = self.towards.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((ip, asked)) = towards.get(&remote.ip())
            && now.saturating_duration_since(*asked) < LIFETIME
        {
            return *ip;
        }
        let ip = match network.local_ip_for(remote) {
            Ok(ip) if !ip.is_unspecified() => ip,
            // No way there at the moment, and not remembered, as there may be one soon. Whatever is sent will fail; the Via
            // must be well-formed all the same.
            _ => {
                return match remote {
                    SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
            }
        };
        if towards.len() >= shared.config.local_address_cache {
            count(&shared.counters.local_address_cache_resets);
            towards.clear();
        }
        towards.insert(remote.ip(), (ip, now));
        ip
    }

    /// Returns the id of the flows over a socket at one of our addresses: the socket's own once there are too many.
    pub(crate) fn flow_at(&self, socket: FlowId, local: IpAddr, counters: &Counters) -> FlowId {
        let place = |all: &[IpAddr]| all.iter().position(|ip| *ip == local);
        let known = place(
            &self
                .written_to
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let index = known.or_else(|| {
            let mut all = self
                .written_to
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let known = place(&all);
            if known.is_none() && all.len() < WRITTEN_TO {
                all.push(local);
                return Some(all.len() - 1);
            }
            known
        });
        match index.and_then(|index| u16::try_from(index + 1).ok()) {
            Some(place) => socket.at(place),
            None => {
                count(&counters.local_addresses_unnamed);
                socket
            }
        }
    }

    /// Returns the address of ours that a flow leads from, where that is not its socket's or connection's own.
    pub(crate) fn of_flow(&self, flow: FlowId) -> Option<IpAddr> {
        let index = usize::from(flow.place()).checked_sub(1)?;
        let all = self
            .written_to
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        all.get(index).copied()
    }

    /// Remembers an address that a Via of ours carries.
    pub(crate) fn remember(&self, ip: IpAddr) {
        if self.has_told(ip) {
            return;
        }
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&ip) {
            return;
        }
        if told.len() >= OWN_ADDRESSES {
            told.remove(0);
        }
        told.push(ip);
    }

    fn has_told(&self, ip: IpAddr) -> bool {
        self.told
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&ip)
    }

    /// Tells whether a Via's host is one that we insert.
    pub(crate) fn is_ours(
        &self,
        host: Host<'_>,
        local: IpAddr,
        advertised: Option<&Advertised>,
    ) -> bool {
        let ip = match host {
            Host::V4(ip) => IpAddr::V4(ip),
            Host::V6(ip) => IpAddr::V6(ip),
            Host::Name(name) => {
                return advertised.is_some_and(|own| own.host.eq_ignore_ascii_case(name));
            }
        };
        let advertised = advertised.and_then(|own| own.host.trim_matches(['[', ']']).parse().ok());
        ip == local || advertised == Some(ip) || self.has_told(ip)
    }
}

/// How long an address towards a peer is believed: routes change when a machine moves to another network.
const LIFETIME: Duration = Duration::from_secs(60);

/// How many addresses of ours UDP flows are told apart by: more than machines have. Only a network that is routed to the machine
/// as a whole, and 127.0.0.0/8 for those on it, have more.
const WRITTEN_TO: usize = 1_024;

/// How many addresses of ours are remembered. A machine has a handful; one that roams forgets its oldest.
const OWN_ADDRESSES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_addresses_are_told_apart_than_the_cap_allows() {
        let (addresses, counters) = (LocalAddresses::default(), Counters::default());
        let socket = FlowId::from_u64(5);
        let at = |number: usize| {
            let ip = Ipv4Addr::from_bits(0x7f00_0001 + number as u32);
            addresses.flow_at(socket, ip.into(), &counters)
        };
        for number in 0..WRITTEN_TO {
            let flow = at(number);
            assert_eq!(flow.socket(), socket);
            assert_eq!(at(number), flow);
            let ip = Ipv4Addr::from_bits(0x7f00_0001 + number as u32);
            assert_eq!(addresses.of_flow(flow), Some(ip.into()));
        }
        assert_eq!(at(WRITTEN_TO), socket);
        assert_eq!(addresses.of_flow(socket), None);
        assert_eq!(counters.snapshot().local_addresses_unnamed, 1);
        assert_ne!(at(0), socket);
    }
}
