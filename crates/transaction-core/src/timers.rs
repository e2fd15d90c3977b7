//! Alarms of many holders, ordered by time.
//!
//! A holder keeps its own times and puts one entry, its earliest, in here. An entry is never taken out early: when it
//! comes up, its holder says whether it still means it. Stale entries are swept out when they outnumber the rest, so the
//! queue stays within twice the number of holders. The type is private, to be replaced by a wheel when that pays.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

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

const KEY_BITS: u32 = crate::slab::KEY_BITS;
const KEY: u64 = (1 << KEY_BITS) - 1;

#[derive(Debug, Default)]
pub(crate) struct TimerQueue {
    heap: BinaryHeap<Reverse<(Instant, Holder)>>,
}

impl TimerQueue {
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn insert(&mut self, at: Instant, holder: Holder) {
        self.heap.push(Reverse((at, holder)));
    }

    /// Returns the time of the earliest entry, which may be stale.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out one entry that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Holder)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Drops stale entries once they are the greater part.
    pub(crate) fn sweep(&mut self, holders: usize, is_meant: impl Fn(Instant, Holder) -> bool) {
        if self.heap.len() <= 64 + holders.saturating_mul(2) {
            return;
        }
        self.heap
            .retain(|Reverse((at, holder))| is_meant(*at, *holder));
        if self.heap.capacity() > 1024 && self.heap.len().saturating_mul(8) < self.heap.capacity() {
            self.heap.shrink_to(self.heap.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn entries_come_up_in_order_of_time_and_not_before() {
        let start = Instant::now();
        let mut queue = TimerQueue::default();
        for second in [3, 1, 2] {
            queue.insert(start + Duration::from_secs(second), Holder::client(second));
        }
        assert_eq!(queue.next(), Some(start + Duration::from_secs(1)));
        assert_eq!(queue.pop_due(start), None);
        let due = start + Duration::from_secs(2);
        let holders: Vec<_> = std::iter::from_fn(|| queue.pop_due(due))
            .map(|(_, holder)| holder)
            .collect();
        assert_eq!(holders, [Holder::client(1), Holder::client(2)]);
    }

    #[test]
    fn stale_entries_never_outnumber_the_rest_by_much() {
        let start = Instant::now();
        let mut queue = TimerQueue::default();
        for number in 0..100_000 {
            queue.insert(start + Duration::from_secs(32), Holder::client(number));
            queue.sweep(10, |_, holder| holder.whose() == Whose::Client(3));
            assert!(queue.len() <= 64 + 2 * 10);
        }
    }
}
