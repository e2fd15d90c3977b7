//! Alarms of many holders: a timing wheel of six levels with 64 places each (Varghese and Lauck, 1987).
//!
//! A holder keeps its own times and has one entry in here, no later than its earliest time. Inserting, moving and taking out
//! an entry are a few instructions each, whatever the number of entries. An entry that comes up too early is put back by its
//! holder, so that a time which only moves away, as that of most transactions does, costs nothing.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Whose alarm it is: a key of one of three slabs, which leave the two highest bits free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder(u64);

/// What a [`Holder`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Client(u64),
    Server(u64),
    Exchange(u64),
}

impl Holder {
    pub(crate) fn client(key: u64) -> Self {
        Self(key & KEY)
    }

    pub(crate) fn server(key: u64) -> Self {
        Self(key & KEY | 1 << KEY_BITS)
    }

    pub(crate) fn exchange(key: u64) -> Self {
        Self(key & KEY | 2 << KEY_BITS)
    }

    pub(crate) fn whose(self) -> Whose {
        let key = self.0 & KEY;
        match self.0 >> KEY_BITS {
            0 => Whose::Client(key),
            1 => Whose::Server(key),
            _ => Whose::Exchange(key),
        }
    }
}

/// A moment, in milliseconds since the first that the clock was told, modulo 2^32. Two of them compare rightly as long as
/// they are less than 24 days apart, and no wait is longer than [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tick(NonZeroU32);

impl Tick {
    fn of(millis: u64) -> Self {
        // Zero stands for none; once in 49 days an alarm is a millisecond late.
        Self(NonZeroU32::new(millis as u32).unwrap_or(NonZeroU32::MIN))
    }

    fn since(self, other: Self) -> i32 {
        self.0.get().wrapping_sub(other.0.get()) as i32
    }

    /// Says whether the moment has come.
    pub(crate) fn is_due(self, now: Self) -> bool {
        now.since(self) >= 0
    }
}

/// Returns the earlier of two moments that may be none.
pub(crate) fn earlier(one: Option<Tick>, other: Option<Tick>) -> Option<Tick> {
    match (one, other) {
        (Some(one), Some(other)) if one.is_due(other) => Some(one),
        (Some(_), Some(other)) => Some(other),
        (one, other) => one.or(other),
    }
}

/// Tells moments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    start: Option<Instant>,
}

impl Clock {
    /// The millisecond that an instant lies in.
    pub(crate) fn now(&mut self, instant: Instant) -> Tick {
        Tick::of(self.millis(instant))
    }

    /// The first millisecond that begins when `wait` is over.
    pub(crate) fn after(&mut self, instant: Instant, wait: Duration) -> Tick {
        let start = *self.start.get_or_insert(instant);
        let end = instant.saturating_duration_since(start) + wait.min(LONGEST);
        let whole = millis(end);
        let begun = u64::from(!end.subsec_nanos().is_multiple_of(1_000_000));
        Tick::of(FIRST + whole + begun)
    }

    fn millis(&mut self, instant: Instant) -> u64 {
        let start = *self.start.get_or_insert(instant);
        FIRST + millis(instant.saturating_duration_since(start))
    }

    fn instant(&self, millis: u64) -> Option<Instant> {
        self.start?
            .checked_add(Duration::from_millis(millis.saturating_sub(FIRST)))
    }
}

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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

const KEY_BITS: u32 = crate::slab::KEY_BITS;
const KEY: u64 = (1 << KEY_BITS) - 1;

/// What the clock calls its first millisecond.
const FIRST: u64 = 1;

/// The longest wait: twelve days, half of what two ticks may be apart.
const LONGEST: Duration = Duration::from_secs(12 * 24 * 3600);

/// What an entry takes.
#[cfg(test)]
pub(crate) const NODE_SIZE: usize = size_of::<Node>();

const LEVELS: usize = 6;
const PLACES: usize = 64;
/// 64 places are six bits of a time.
const BITS: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IdSource;
    use std::collections::BTreeMap;

    struct Wheel {
        queue: TimerQueue,
        clock: Clock,
        start: Instant,
    }

    impl Wheel {
        fn new() -> Self {
            let start = Instant::now();
            let mut clock = Clock::default();
            clock.now(start);
            Self {
                queue: TimerQueue::default(),
                clock,
                start,
            }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn insert(&mut self, now: u64, wait: u64, holder: u64) -> Entry {
            let tick = self.tick(now, wait);
            self.queue.insert(tick, Holder::client(holder))
        }

        fn tick(&mut self, now: u64, wait: u64) -> Tick {
            let now = self.at(now);
            self.clock.after(now, Duration::from_millis(wait))
        }

        fn due(&mut self, millis: u64) -> Vec<u64> {
            let now = self.at(millis);
            let holders = std::iter::from_fn(|| self.queue.pop_due(now, &mut self.clock));
            holders
                .map(|holder| match holder.whose() {
                    Whose::Client(key) => key,
                    other => panic!("{other:?}"),
                })
                .collect()
        }

        fn next(&self) -> Option<u64> {
            let next = self.queue.next(&self.clock)?;
            Some(millis(next - self.start))
        }
    }

    #[test]
    fn entries_come_up_in_order_of_time_and_not_before() {
        let mut wheel = Wheel::new();
        for second in [3, 1, 2] {
            wheel.insert(0, second * 1000, second);
        }
        assert!(wheel.next().unwrap() <= 1000);
        assert_eq!(wheel.due(999), []);
        assert_eq!(wheel.due(2000), [1, 2]);
        assert_eq!(wheel.due(2999), []);
        assert_eq!(wheel.due(3000), [3]);
        assert_eq!((wheel.next(), wheel.queue.len()), (None, 0));
    }

    #[test]
    fn a_wait_ends_with_the_millisecond_after_it_and_never_before() {
        let mut wheel = Wheel::new();
        let now = wheel.start + Duration::from_nanos(1);
        let tick = wheel.clock.after(now, Duration::from_millis(500));
        wheel.queue.insert(tick, Holder::client(1));
        assert_eq!(wheel.due(500), []);
        assert_eq!(wheel.due(501), [1]);
    }

    #[test]
    fn entries_of_one_millisecond_come_up_as_they_were_put_in() {
        let mut wheel = Wheel::new();
        for holder in 1..=5 {
            wheel.insert(0, 70_000, holder);
        }
        assert_eq!(wheel.due(70_000), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_is_due_at_once_comes_up_at_once() {
        let mut wheel = Wheel::new();
        assert_eq!(wheel.due(10), []);
        wheel.insert(5, 0, 1);
        assert_eq!(wheel.next(), Some(10));
        assert_eq!(wheel.due(10), [1]);
    }

    #[test]
    fn the_longest_wait_is_twelve_days() {
        let mut wheel = Wheel::new();
        wheel.insert(0, u64::MAX / 4, 1);
        let days = 12 * 24 * 3_600_000;
        assert_eq!(wheel.due(days - 1), []);
        assert_eq!(wheel.due(days), [1]);
    }

    /// Against a map that is ordered by time, over four months: insertions, removals, shifts and jumps of all sizes.
    #[test]
    fn it_does_what_an_ordered_map_does() {
        for seed in 0..20 {
            let mut ids = IdSource::from_number(seed);
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<u64, (Entry, u64)> = BTreeMap::new();
            let mut now = 0;
            for holder in 1..20_000_u64 {
                let bits = ids.number_in(0, 29);
                let wait = ids.number_in(0, 1 << bits);
                match ids.number_in(0, 9) {
                    0..=4 => {
                        let entry = wheel.insert(now, wait, holder);
                        model.insert(holder, (entry, now + wait));
                    }
                    5 | 6 => {
                        let some = ids.number_in(0, holder);
                        if let Some((&key, _)) = model.range(some..).next() {
                            let (entry, _) = model.remove(&key).unwrap();
                            wheel.queue.remove(entry);
                        }
                    }
                    7 | 8 => {
                        let some = ids.number_in(0, holder);
                        let tick = wheel.tick(now, wait);
                        if let Some((_, (entry, at))) = model.range_mut(some..).next() {
                            wheel.queue.shift(*entry, tick);
                            *at = now + wait;
                        }
                    }
                    _ => {
                        now += wait >> 4;
                        let earliest = model.values().map(|(_, at)| *at).min();
                        assert!(wheel.next() <= earliest || earliest.is_none());
                        let mut expected: Vec<(u64, u64)> = model
                            .iter()
                            .filter(|(_, (_, at))| *at <= now)
                            .map(|(holder, (_, at))| (*at, *holder))
                            .collect();
                        let mut due: Vec<(u64, u64)> = Vec::new();
                        for holder in wheel.due(now) {
                            let (_, at) = model.remove(&holder).unwrap();
                            assert!(due.last().is_none_or(|(last, _)| *last <= at));
                            due.push((at, holder));
                        }
                        expected.sort_unstable();
                        due.sort_unstable();
                        assert_eq!(due, expected, "seed {seed}, at {now}");
                    }
                }
                assert_eq!(wheel.queue.len(), model.len());
            }
        }
    }

    #[test]
    fn what_is_put_in_before_the_first_look_is_found_again() {
        for wait in 1..=5000 {
            let mut wheel = Wheel::new();
            wheel.insert(0, wait, 1);
            let removed = wheel.insert(0, wait, 2);
            wheel.insert(0, 5001, 3);
            assert_eq!(wheel.due(0), []);
            wheel.queue.remove(removed);
            assert_eq!(wheel.due(wait), [1]);
            assert_eq!(wheel.due(5001), [3]);
        }
    }

    /// As the layer does it: what comes up early is put back, and others are moved and taken out while more is due. Times lie
    /// close together, and the clock starts afresh with each seed.
    #[test]
    fn entries_that_change_while_others_come_up_are_not_lost() {
        for seed in 0..300 {
            let mut ids = IdSource::from_number(seed);
            let mut wheel = Wheel::new();
            let mut model: BTreeMap<u64, (Entry, u64)> = BTreeMap::new();
            let mut now = 0;
            for holder in 1..400_u64 {
                for key in [holder, holder + 1_000_000] {
                    let wait = ids.number_in(0, 400);
                    model.insert(key, (wheel.insert(now, wait, key), now + wait));
                }
                now += ids.number_in(0, 20);
                let at = wheel.at(now);
                while let Some(up) = wheel.queue.pop_due(at, &mut wheel.clock) {
                    let Whose::Client(up) = up.whose() else {
                        panic!("{up:?}");
                    };
                    let (_, when) = model.remove(&up).unwrap();
                    assert!(
                        when <= now,
                        "seed {seed}: {up} came up at {now}, not {when}"
                    );
                    let wait = ids.number_in(0, 100);
                    let some = ids.number_in(0, holder);
                    let Some((&key, _)) = model.range(some..).next() else {
                        continue;
                    };
                    match ids.number_in(0, 3) {
                        0 => {
                            model.insert(up, (wheel.insert(now, wait, up), now + wait));
                        }
                        1 => {
                            let tick = wheel.tick(now, wait);
                            let (entry, at) = model.get_mut(&key).unwrap();
                            wheel.queue.shift(*entry, tick);
                            *at = now + wait;
                        }
                        2 => wheel.queue.remove(model.remove(&key).unwrap().0),
                        _ => {}
                    }
                }
                let late = model.values().filter(|(_, at)| *at <= now).count();
                assert_eq!((late, wheel.queue.len()), (0, model.len()), "seed {seed}");
            }
        }
    }

    #[test]
    fn removed_entries_leave_nothing_and_a_burst_gives_its_memory_back() {
        let mut wheel = Wheel::new();
        let entries: Vec<Entry> = (0..100_000)
            .map(|holder| wheel.insert(0, 32_000, holder))
            .collect();
        for entry in entries {
            wheel.queue.remove(entry);
        }
        assert_eq!(wheel.queue.len(), 0);
        assert_eq!(wheel.next(), None);
        assert!(wheel.queue.nodes.capacity() < 4_096);
        // What is left is still in order.
        wheel.insert(0, 5, 1);
        wheel.insert(0, 3, 2);
        assert_eq!(wheel.due(10), [2, 1]);
    }
}
