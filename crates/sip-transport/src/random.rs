//! Numbers for jitter and for the names of STUN requests.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes numbers: unpredictable ones, or those that follow from a seed.
#[derive(Debug)]
pub(crate) struct Random {
    seed: Option<u64>,
    /// How many a seed has made.
    made: AtomicU64,
}

impl Random {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self {
            seed,
            made: AtomicU64::new(0),
        }
    }

    pub(crate) fn number(&self) -> u64 {
        let Some(seed) = self.seed else {
            // Keys of the operating system's, others each time.
            return RandomState::new().hash_one(());
        };
        let mut hasher = DefaultHasher::new();
        (seed, self.made.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_plays_again_and_none_does_not() {
        let some = |seed| {
            let random = Random::new(seed);
            (0..8).map(|_| random.number()).collect::<Vec<_>>()
        };
        assert_eq!(some(Some(7)), some(Some(7)));
        assert_ne!(some(Some(7)), some(Some(8)));
        assert_ne!(some(None), some(None));
        let mut all = some(Some(7));
        all.extend(some(None));
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
    }
}
