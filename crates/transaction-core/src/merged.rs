//! Which requests a user has before it already, come by another way (RFC 3261 §8.2.2.2).

use crate::slab;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::num::NonZeroU64;

/// Names what a request was before it was forked: who was asked, and From tag, Call-ID and CSeq, as a keyed hash.
///
/// 64 bits are enough: nobody can aim at a collision, and among 500,000 transactions chance hits one in 2^45 requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin(NonZeroU64);

impl Origin {
    pub(crate) fn new(hash: u64) -> Self {
        Self(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MAX))
    }
}

/// Counts the transactions that are there for each origin. There are at most as many as server transactions.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    counts: HashMap<Origin, u32, BuildHasherDefault<crate::key::KeyHasher>>,
}

impl Origins {
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    pub(crate) fn contains(&self, origin: Origin) -> bool {
        self.counts.contains_key(&origin)
    }

    pub(crate) fn add(&mut self, origin: Origin) {
        let count = self.counts.entry(origin).or_default();
        *count = count.saturating_add(1);
    }

    pub(crate) fn remove(&mut self, origin: Origin) {
        let Some(count) = self.counts.get_mut(&origin) else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return;
        }
        self.counts.remove(&origin);
        if slab::is_mostly_empty(self.counts.len(), self.counts.capacity()) {
            self.counts.shrink_to(self.counts.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_known_until_its_last_transaction_is_gone() {
        let mut origins = Origins::default();
        let origin = Origin::new(7);
        origins.add(origin);
        origins.add(origin);
        origins.remove(origin);
        assert!(origins.contains(origin));
        origins.remove(origin);
        assert!(!origins.contains(origin));
        origins.remove(origin);
        assert_eq!(origins.len(), 0);
    }

    #[test]
    fn a_burst_gives_its_memory_back() {
        let mut origins = Origins::default();
        for number in 0..100_000 {
            origins.add(Origin::new(number));
        }
        for number in 0..100_000 {
            origins.remove(Origin::new(number));
        }
        assert!(
            origins.counts.capacity() < 4_096,
            "{}",
            origins.counts.capacity()
        );
    }
}
