//! A vector with holes, whose keys are never used twice.

/// Stores values under keys of generation, shard and index: the key of a removed value never finds another, nor does that of
/// another shard.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// Where new slots begin to count.
    generation: u32,
    /// The number of the shard, in its place in a key.
    shard: u64,
    /// Removals since [`trim`](Self::trim) last looked.
    removed: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    /// Makes one whose keys differ from those of other shards.
    pub(crate) fn of_shard(shard: u8) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            generation: 1,
            shard: u64::from(shard) << INDEX_BITS,
            removed: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> u64 {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.value = Some(value);
            return key(slot.generation, index) | self.shard;
        }
        // The callers' caps are at most `MOST_VALUES`.
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot {
            generation: self.generation,
            value: Some(value),
        });
        key(self.generation, index) | self.shard
    }

    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        let (generation, index) = self.parts(key)?;
        self.slots
            .get(index)
            .filter(|slot| slot.generation == generation)?
            .value
            .as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let (generation, index) = self.parts(key)?;
        self.slots
            .get_mut(index)
            .filter(|slot| slot.generation == generation)?
            .value
            .as_mut()
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let (generation, index) = self.parts(key)?;
        let slot = self
            .slots
            .get_mut(index)
            .filter(|slot| slot.generation == generation)?;
        let value = slot.value.take()?;
        // Generation 0 stays free for the key 0, which finds nothing.
        slot.generation = if slot.generation < LAST_GENERATION {
            slot.generation + 1
        } else {
            1
        };
        self.free.push(index as u32);
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = key(slot.generation, index as u32) | self.shard;
            Some((key, slot.value.as_ref()?))
        })
    }

    fn parts(&self, key: u64) -> Option<(u32, usize)> {
        let index = key & (MOST_VALUES as u64 - 1);
        let is_ours = key & SHARD_MASK == self.shard;
        is_ours.then_some(((key >> 32) as u32, index as usize))
    }

    /// Gives back what a burst took: the free slots at the end, when they are most of all. Looks for them when the last slot is
    /// free, and not so often that the looking costs.
    pub(crate) fn trim(&mut self) {
        self.removed += 1;
        let (all, live) = (self.slots.len(), self.len());
        let may_end = self.slots.last().is_some_and(|slot| slot.value.is_none());
        if all <= 1024 || live > all / 4 || !may_end || live > 0 && self.removed < all / 64 {
            return;
        }
        self.removed = 0;
        let kept = self
            .slots
            .iter()
            .rposition(|slot| slot.value.is_some())
            .map_or(0, |last| last + 1);
        if kept * 2 > all {
            return;
        }
        // The keys of dropped slots must find nothing when their places are used again.
        let dropped = self.slots.drain(kept..).map(|slot| slot.generation).max();
        self.generation = self.generation.max(dropped.unwrap_or(0));
        self.free.retain(|&index| (index as usize) < kept);
        self.slots.shrink_to(kept * 2);
        self.free.shrink_to(kept * 2);
    }
}

/// Says whether a map that has shrunk holds memory that is worth giving back.
pub(crate) fn is_mostly_empty(len: usize, capacity: usize) -> bool {
    capacity > 1024 && len < capacity / 4
}

/// Names the shard whose slab made a key.
pub(crate) fn shard_of(key: u64) -> usize {
    ((key & SHARD_MASK) >> INDEX_BITS) as usize
}

/// Values that a slab has keys for.
pub(crate) const MOST_VALUES: usize = 1 << INDEX_BITS;

const INDEX_BITS: u32 = 24;
const SHARD_MASK: u64 = 0xff << INDEX_BITS;

/// Bits that a key has: 24 of index, 8 of shard and 30 of generation.
pub(crate) const KEY_BITS: u32 = 62;

const LAST_GENERATION: u32 = (1 << (KEY_BITS - 32)) - 1;

fn key(generation: u32, index: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_value_until_it_is_removed_and_nothing_after() {
        let mut slab = Slab::of_shard(0);
        let one = slab.insert("one");
        assert_eq!(slab.get(one), Some(&"one"));
        assert_eq!(slab.remove(one), Some("one"));
        let other = slab.insert("other");
        assert_ne!(one, other);
        assert_eq!(slab.get(one), None);
        assert_eq!(slab.remove(one), None);
        assert_eq!(slab.get_mut(other), Some(&mut "other"));
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.iter().count(), 1);
    }

    #[test]
    fn the_key_of_one_shard_finds_nothing_in_another() {
        let (mut one, mut other) = (Slab::of_shard(3), Slab::of_shard(255));
        let (first, second) = (one.insert("one"), other.insert("other"));
        assert_ne!(first, second);
        assert_eq!((shard_of(first), shard_of(second)), (3, 255));
        assert_eq!((one.get(first), one.get(second)), (Some(&"one"), None));
        assert_eq!(other.remove(first), None);
        assert_eq!(other.remove(second), Some("other"));
        assert_eq!(one.iter().next(), Some((first, &"one")));
    }

    #[test]
    fn zero_is_no_key() {
        let mut slab = Slab::of_shard(0);
        slab.insert(());
        assert_eq!(slab.get(0), None);
    }

    #[test]
    fn the_last_value_of_a_burst_takes_all_slots_along() {
        let mut slab = Slab::of_shard(0);
        for round in 1..5 {
            // However many have come and gone before.
            for _ in 0..round * 700 {
                let key = slab.insert(0);
                slab.remove(key);
                slab.trim();
            }
            let keys: Vec<u64> = (0..10_000).map(|number| slab.insert(number)).collect();
            for key in keys {
                slab.remove(key);
                slab.trim();
            }
            assert_eq!((slab.slots.capacity(), slab.free.capacity()), (0, 0));
        }
    }

    #[test]
    fn a_burst_gives_its_memory_back_and_old_keys_find_nothing() {
        let mut slab = Slab::of_shard(0);
        let first = slab.insert(0);
        let keys: Vec<u64> = (1..10_000).map(|number| slab.insert(number)).collect();
        for key in &keys {
            slab.remove(*key);
            slab.trim();
        }
        assert!(slab.slots.capacity() < 1_000, "{}", slab.slots.capacity());
        assert_eq!(slab.get(first), Some(&0));
        let again: Vec<u64> = (0..10_000).map(|number| slab.insert(number)).collect();
        assert!(keys.iter().all(|key| slab.get(*key).is_none()));
        assert_eq!(
            again.iter().filter(|key| slab.get(**key).is_some()).count(),
            10_000
        );
    }
}
