//! A vector with holes, whose keys are never used twice.

/// Stores values under keys of index and generation: the key of a removed value never finds another.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
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
            return key(slot.generation, index);
        }
        // The callers' caps are far below 2^32.
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot {
            generation: 1,
            value: Some(value),
        });
        key(1, index)
    }

    pub(crate) fn get(&self, key: u64) -> Option<&T> {
        let (generation, index) = parts(key);
        self.slots
            .get(index)
            .filter(|slot| slot.generation == generation)?
            .value
            .as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let (generation, index) = parts(key);
        self.slots
            .get_mut(index)
            .filter(|slot| slot.generation == generation)?
            .value
            .as_mut()
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let (generation, index) = parts(key);
        let slot = self
            .slots
            .get_mut(index)
            .filter(|slot| slot.generation == generation)?;
        let value = slot.value.take()?;
        // Generation 0 stays free for the key 0, which finds nothing.
        slot.generation = slot.generation.checked_add(1).unwrap_or(1);
        self.free.push(index as u32);
        self.give_memory_back();
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            Some((key(slot.generation, index as u32), slot.value.as_ref()?))
        })
    }

    /// An empty slab keeps its slots, for their generations, but a long list of free ones is not worth its memory.
    fn give_memory_back(&mut self) {
        if self.free.capacity() > 1024 && self.free.len() * 4 < self.free.capacity() {
            self.free.shrink_to(self.free.len() * 2);
        }
    }
}

fn key(generation: u32, index: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

fn parts(key: u64) -> (u32, usize) {
    ((key >> 32) as u32, (key & u64::from(u32::MAX)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_value_until_it_is_removed_and_nothing_after() {
        let mut slab = Slab::new();
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
    fn zero_is_no_key() {
        let mut slab = Slab::new();
        slab.insert(());
        assert_eq!(slab.get(0), None);
    }
}
