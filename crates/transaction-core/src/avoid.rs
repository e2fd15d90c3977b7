//! Targets that failed a short while ago, to be tried after the others (RFC 3263 §4.3, RFC 3261 §21.5.4).

use crate::timers::Tick;
use sipora_transport::{Destination, Transport};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;

/// Remembers targets until their time is over.
#[derive(Debug)]
pub(crate) struct Avoided {
    targets: BTreeMap<Key, Entry>,
    most: usize,
    /// Entries at which those that are over are swept out.
    sweep_at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    until: Tick,
    unreachable: bool,
}

impl Avoided {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            targets: BTreeMap::new(),
            most,
            sweep_at: SWEEP_FROM,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Notes a failure. `unreachable` says that there was not even a flow to it. A full table remembers no more.
    pub(crate) fn insert(
        &mut self,
        now: Tick,
        target: &Destination,
        until: Tick,
        unreachable: bool,
    ) {
        if self.targets.len() >= self.sweep_at.min(self.most) {
            self.targets.retain(|_, entry| !entry.until.is_due(now));
            self.sweep_at = (self.targets.len() * 2).max(SWEEP_FROM);
        }
        if self.targets.len() < self.most {
            let entry = Entry { until, unreachable };
            self.targets.insert(key(target), entry);
        }
    }

    /// Notes that a target has answered.
    pub(crate) fn remove(&mut self, target: &Destination) {
        if !self.targets.is_empty() {
            self.targets.remove(&key(target));
        }
    }

    pub(crate) fn contains(&self, now: Tick, target: &Destination) -> bool {
        self.entry(now, target).is_some()
    }

    pub(crate) fn is_unreachable(&self, now: Tick, target: &Destination) -> bool {
        self.entry(now, target)
            .is_some_and(|entry| entry.unreachable)
    }

    fn entry(&self, now: Tick, target: &Destination) -> Option<&Entry> {
        self.targets
            .get(&key(target))
            .filter(|entry| !entry.until.is_due(now))
    }

    /// Puts the targets that are avoided behind the others, and says how many were overtaken. None is left out: where all
    /// have failed, the best of them may be back.
    pub(crate) fn sort(&self, now: Tick, targets: &mut [Destination]) -> u64 {
        if self.targets.is_empty() || targets.len() < 2 {
            return 0;
        }
        let is_avoided = |target: &Destination| self.contains(now, target);
        let last = targets.iter().rposition(|target| !is_avoided(target));
        let ahead = targets.iter().take(last.unwrap_or(0));
        let overtaken = ahead.filter(|target| is_avoided(target)).count() as u64;
        if overtaken > 0 {
            targets.sort_by_key(is_avoided);
        }
        overtaken
    }
}

type Key = (Transport, SocketAddr, u64);

/// Where the server has to prove a name, that counts too: whoever gives a name of their own this address would make the
/// handshake fail, and must not keep others from it. A hash takes its place, as a name may be long.
fn key(target: &Destination) -> Key {
    let name = target.server_name.as_deref();
    let name = name.filter(|_| target.transport.is_secure());
    let hash = name.map_or(0, |name| {
        let mut hasher = DefaultHasher::new();
        for byte in name.bytes() {
            hasher.write_u8(byte.to_ascii_lowercase());
        }
        hasher.finish()
    });
    (target.transport, target.address, hash)
}

const SWEEP_FROM: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timers::Clock;
    use std::time::{Duration, Instant};

    #[test]
    fn a_name_that_the_certificate_does_not_carry_is_held_against_no_other_name() {
        let start = Instant::now();
        let mut clock = Clock::default();
        let mut avoided = Avoided::new(100);
        let target = |transport: Transport, name: &str| Destination {
            transport,
            address: ([192, 0, 2, 1], 5061).into(),
            server_name: Some(name.into()),
        };
        let until = clock.after(start, Duration::from_secs(30));
        let now = clock.now(start);
        for transport in [Transport::Tls, Transport::Tcp] {
            avoided.insert(now, &target(transport, "Stranger.example"), until, true);
        }
        assert!(avoided.contains(now, &target(Transport::Tls, "stranger.example")));
        assert!(!avoided.contains(now, &target(Transport::Tls, "example.com")));
        assert!(avoided.contains(now, &target(Transport::Tcp, "example.com")));
        avoided.remove(&target(Transport::Tls, "example.com"));
        assert!(avoided.contains(now, &target(Transport::Tls, "stranger.example")));
    }

    #[test]
    fn the_table_keeps_within_its_cap_and_forgets_what_is_over() {
        let start = Instant::now();
        let mut clock = Clock::default();
        let mut avoided = Avoided::new(100);
        let target = |number: u16| Destination::udp(([192, 0, 2, 1], number).into());
        for number in 1..=500 {
            let until = clock.after(start, Duration::from_secs(30));
            avoided.insert(clock.now(start), &target(number), until, false);
        }
        assert_eq!(avoided.len(), 100);
        let later = start + Duration::from_secs(30);
        let now = clock.now(later);
        assert!(!avoided.contains(now, &target(1)));
        let until = clock.after(later, Duration::from_secs(30));
        avoided.insert(now, &target(1_000), until, false);
        assert_eq!(avoided.len(), 1);
    }
}
