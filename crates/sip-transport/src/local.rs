//! Our own addresses, as our peers see them.

use crate::metrics::count;
use crate::shared::Shared;
use crate::{Advertised, Network};
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

/// How many addresses of ours are remembered. A machine has a handful; one that roams forgets its oldest.
const OWN_ADDRESSES: usize = 64;
