use super::super::{Whose, tick::millis};
use super::*;
use crate::IdSource;
use std::collections::BTreeMap;
use std::time::Duration;

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
