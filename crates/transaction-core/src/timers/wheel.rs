//! The wheel itself.

use super::{Clock, Holder, Tick};
use std::num::NonZeroU32;
use std::time::Instant;

/// Names an entry, until it has come up or been taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(NonZeroU32);

/// All entries, as lists that are threaded through one vector.
#[derive(Debug)]
pub(crate) struct TimerQueue {
    /// The first is no entry, so that index 0 stands for none.
    nodes: Vec<Node>,
    /// The first of the free nodes.
    free: u32,
    len: usize,
    /// Removals since memory was last looked at.
    removed: usize,
    /// Up to where all has come up. In milliseconds of the [`Clock`].
    elapsed: u64,
    levels: [Level; LEVELS],
    /// Entries whose time has come, in order.
    due: List,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// Two halves, which saves padding.
    holder: [u32; 2],
    /// `None` in a free node.
    tick: Option<Tick>,
    previous: u32,
    next: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct List {
    first: u32,
    last: u32,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    /// A bit for each place that has entries.
    occupied: u64,
    places: [List; PLACES],
}

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Due,
    Wheel { level: usize, index: usize },
}

impl Default for TimerQueue {
    fn default() -> Self {
        let level = Level {
            occupied: 0,
            places: [List::default(); PLACES],
        };
        Self {
            nodes: vec![Node::FREE],
            free: 0,
            len: 0,
            removed: 0,
            elapsed: 0,
            levels: [level; LEVELS],
            due: List::default(),
        }
    }
}

impl Node {
    const FREE: Self = Self {
        holder: [0; 2],
        tick: None,
        previous: 0,
        next: 0,
    };
}

impl TimerQueue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, tick: Tick, holder: Holder) -> Entry {
        let node = Node {
            holder: [(holder.0 >> 32) as u32, holder.0 as u32],
            tick: Some(tick),
            ..Node::FREE
        };
        let mut index = self.free;
        match self.nodes.get_mut(index as usize).filter(|_| index != 0) {
            Some(free) => {
                self.free = free.next;
                *free = node;
            }
            None => {
                // The callers' caps are far below 2^32.
                index = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
                self.nodes.push(node);
            }
        }
        self.len += 1;
        self.link(index, tick);
        Entry(NonZeroU32::new(index).unwrap_or(NonZeroU32::MIN))
    }

    /// Returns when an entry will come up.
    pub(crate) fn tick(&self, entry: Entry) -> Option<Tick> {
        self.nodes.get(entry.0.get() as usize)?.tick
    }

    /// Gives an entry another time.
    pub(crate) fn shift(&mut self, entry: Entry, tick: Tick) {
        let index = entry.0.get();
        if self.tick(entry).is_none() {
            return;
        }
        self.unlink(index);
        if let Some(node) = self.nodes.get_mut(index as usize) {
            node.tick = Some(tick);
        }
        self.link(index, tick);
    }

    /// Takes an entry out before its time.
    pub(crate) fn remove(&mut self, entry: Entry) {
        if self.tick(entry).is_some() {
            self.unlink(entry.0.get());
            self.release(entry.0.get());
        }
    }

    /// Returns when the queue wants to be looked at: not after the time of its earliest entry, and maybe before it.
    pub(crate) fn next(&self, clock: &Clock) -> Option<Instant> {
        if self.due.first != 0 {
            return clock.instant(self.elapsed);
        }
        clock.instant(self.earliest()?.0)
    }

    /// Takes out one entry that is due.
    pub(crate) fn pop_due(&mut self, now: Instant, clock: &mut Clock) -> Option<Holder> {
        let now = clock.millis(now);
        while self.due.first == 0 {
            match self.earliest() {
                Some((begin, level, index)) if begin <= now => self.unfold(begin, level, index),
                _ => {
                    self.elapsed = self.elapsed.max(now);
                    return None;
                }
            }
        }
        let index = self.due.first;
        let [high, low] = self.nodes.get(index as usize)?.holder;
        self.unlink(index);
        self.release(index);
        Some(Holder(u64::from(high) << 32 | u64::from(low)))
    }

    /// The place whose time comes first, and when it begins.
    fn earliest(&self) -> Option<(u64, usize, usize)> {
        let (level, ring) = self
            .levels
            .iter()
            .enumerate()
            .find(|(_, ring)| ring.occupied != 0)?;
        let bits = BITS * level as u32;
        let here = (self.elapsed >> bits) as usize % PLACES;
        let ahead = ring.occupied.rotate_right(here as u32).trailing_zeros() as usize;
        let index = (here + ahead) % PLACES;
        let begin = ((self.elapsed >> bits) + ahead as u64) << bits;
        Some((begin.max(self.elapsed), level, index))
    }

    /// Hands the entries of a place whose time has begun down to the levels below, or to those that are due.
    fn unfold(&mut self, begin: u64, level: usize, index: usize) {
        self.elapsed = begin;
        let Some(ring) = self.levels.get_mut(level) else {
            return;
        };
        ring.occupied &= !(1 << index);
        let Some(list) = ring.places.get_mut(index) else {
            return;
        };
        let mut next = std::mem::take(list).first;
        while let Some(node) = self.nodes.get_mut(next as usize).filter(|_| next != 0) {
            let current = std::mem::replace(&mut next, node.next);
            (node.previous, node.next) = (0, 0);
            if let Some(tick) = node.tick {
                self.link(current, tick);
            }
        }
    }

    /// The millisecond of a tick, which is the same however far the wheel has turned: where an entry has been put depends on it,
    /// and where it is looked for.
    fn when(&self, tick: Tick) -> u64 {
        let ahead = tick.0.get().wrapping_sub(self.elapsed as u32) as i32;
        self.elapsed.saturating_add_signed(i64::from(ahead))
    }

    /// Where an entry belongs: the level on which its time first differs from the present.
    fn place(&self, tick: Tick) -> Place {
        let when = self.when(tick);
        if when <= self.elapsed {
            return Place::Due;
        }
        let differs = (self.elapsed ^ when) | 1;
        let level = (differs.ilog2() / BITS) as usize;
        // 2^36 ms are two years: who runs that long may see a wait of days turn round at the top once.
        let level = level.min(LEVELS - 1);
        Place::Wheel {
            level,
            index: (when >> (BITS * level as u32)) as usize % PLACES,
        }
    }

    fn link(&mut self, index: u32, tick: Tick) {
        let place = self.place(tick);
        if let Place::Wheel { level, index } = place
            && let Some(ring) = self.levels.get_mut(level)
        {
            ring.occupied |= 1 << index;
        }
        let last = match self.list(place) {
            Some(list) => {
                let last = std::mem::replace(&mut list.last, index);
                if last == 0 {
                    list.first = index;
                }
                last
            }
            None => return,
        };
        if let Some(node) = self.nodes.get_mut(index as usize) {
            (node.previous, node.next) = (last, 0);
        }
        if let Some(before) = self.nodes.get_mut(last as usize).filter(|_| last != 0) {
            before.next = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(&Node {
            tick: Some(tick),
            previous,
            next,
            ..
        }) = self.nodes.get(index as usize)
        else {
            return;
        };
        if let Some(before) = self
            .nodes
            .get_mut(previous as usize)
            .filter(|_| previous != 0)
        {
            before.next = next;
        }
        if let Some(after) = self.nodes.get_mut(next as usize).filter(|_| next != 0) {
            after.previous = previous;
        }
        if previous != 0 && next != 0 {
            return;
        }
        // It stands at an end of its list.
        let place = self.home(index, tick);
        let Some(list) = self.list(place) else {
            return;
        };
        if previous == 0 {
            list.first = next;
        }
        if next == 0 {
            list.last = previous;
        }
        let is_empty = list.first == 0;
        if let Place::Wheel { level, index } = place
            && is_empty
            && let Some(ring) = self.levels.get_mut(level)
        {
            ring.occupied &= !(1 << index);
        }
    }

    /// Finds the list that an entry at an end of one is in. It was linked when the wheel had turned less far, so that it may
    /// be on a higher level than it would be now.
    fn home(&self, index: u32, tick: Tick) -> Place {
        let is_end = |list: &List| list.first == index || list.last == index;
        if is_end(&self.due) {
            return Place::Due;
        }
        let when = self.when(tick);
        for (level, ring) in self.levels.iter().enumerate() {
            let place = (when >> (BITS * level as u32)) as usize % PLACES;
            if ring.places.get(place).is_some_and(is_end) {
                return Place::Wheel {
                    level,
                    index: place,
                };
            }
        }
        debug_assert!(false, "an entry that is in no list");
        Place::Due
    }

    fn list(&mut self, place: Place) -> Option<&mut List> {
        match place {
            Place::Due => Some(&mut self.due),
            Place::Wheel { level, index } => self.levels.get_mut(level)?.places.get_mut(index),
        }
    }

    fn release(&mut self, index: u32) {
        let free = self.free;
        if let Some(node) = self.nodes.get_mut(index as usize) {
            *node = Node {
                next: free,
                ..Node::FREE
            };
        }
        self.free = index;
        self.len -= 1;
        self.trim();
    }

    /// Gives back what a burst took: the free nodes at the end, when they are most of all. Looks for them when the last node is
    /// free, and not so often that the looking costs.
    fn trim(&mut self) {
        self.removed += 1;
        let (all, live) = (self.nodes.len(), self.len);
        let may_end = self.nodes.last().is_some_and(|node| node.tick.is_none());
        if all <= 1024 || live > all / 4 || !may_end || live > 0 && self.removed < all / 64 {
            return;
        }
        self.removed = 0;
        let last = self.nodes.iter().rposition(|node| node.tick.is_some());
        let kept = last.map_or(1, |last| last + 1);
        if kept * 2 > all {
            return;
        }
        self.nodes.truncate(kept);
        self.nodes.shrink_to(kept * 2);
        self.free = 0;
        for index in (1..kept).rev() {
            if let Some(node) = self.nodes.get_mut(index).filter(|node| node.tick.is_none()) {
                node.next = self.free;
                self.free = index as u32;
            }
        }
    }
}

/// What an entry takes.
#[cfg(test)]
pub(crate) const NODE_SIZE: usize = size_of::<Node>();

const LEVELS: usize = 6;
const PLACES: usize = 64;
/// 64 places are six bits of a time.
const BITS: u32 = 6;

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
