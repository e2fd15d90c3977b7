//! Maps whose keys are numbers that this program has given.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by a number of ours. No peer chooses such a number, so that none can choose many that collide: it need not be hashed with
/// a secret, which takes ten times as long.
pub(crate) type Numbered<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Spreads numbers that were given one after the other.
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

/// 2^64 by the golden ratio, whose multiples lie evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for NumberHasher {
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(GOLDEN);
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn finish(&self) -> u64 {
        // Tables read the lowest bits and the highest.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    #[test]
    fn numbers_in_a_row_spread_over_the_bits_that_tables_read() {
        let hasher = BuildHasherDefault::<NumberHasher>::default();
        let hashes: Vec<u64> = (0..4_096u64)
            .map(|number| hasher.hash_one(number))
            .collect();
        let lowest: HashSet<u64> = hashes.iter().map(|hash| hash & 0xFFF).collect();
        let highest: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        // By chance 4,096 numbers hit 63 of 100 places.
        assert!(lowest.len() > 2_500, "{}", lowest.len());
        assert_eq!(highest.len(), 128);
    }
}
