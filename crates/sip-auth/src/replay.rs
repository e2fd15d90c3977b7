//! Which nonce counts were seen, in a table that cannot grow past its cap.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Remembers the nonce counts of nonces that were used with a right digest.
///
/// Entries live in periods of issue time and leave with their period, so that expiry costs nothing per entry. When the table
/// is full the oldest period leaves early and its nonces become stale: their users answer one more challenge, and
/// nothing can be replayed.
pub(crate) struct ReplayGuard {
    capacity: usize,
    lifetime: u64,
    period: u64,
    /// Nonces issued before this are stale. Milliseconds since the Unix epoch.
    floor: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// In the order of their numbers. As many as periods fit into a lifetime and the tolerated clock skew.
    periods: VecDeque<Period>,
    tracked: usize,
    dropped_early: u64,
}

struct Period {
    number: u64,
    /// The latest issue time in it.
    youngest: u64,
    seen: HashMap<u64, Window>,
}

/// What the table says about one use of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    First,
    Again,
    /// The table had to forget the time when the nonce was issued.
    Forgotten,
}

/// One nonce with one count.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    pub(crate) tag: u64,
    pub(crate) issued: u64,
    pub(crate) nc: u32,
}

impl ReplayGuard {
    pub(crate) fn new(capacity: usize, lifetime: u64) -> Self {
        ReplayGuard {
            capacity: capacity.max(1),
            lifetime,
            period: (lifetime / PERIODS).max(1),
            floor: AtomicU64::new(0),
            table: Mutex::default(),
        }
    }

    /// Gives the issue time for a nonce made at `now`: no earlier than what has been forgotten.
    pub(crate) fn issue_time(&self, now: u64) -> u64 {
        now.max(self.floor.load(Ordering::Acquire))
    }

    /// Notes one use of a nonce that was issued by us and has not expired at `now`.
    pub(crate) fn note(&self, now: u64, count: Count) -> Use {
        let mut table = self.lock();
        table.expire(now, self.period, self.lifetime);
        if count.issued < self.floor.load(Ordering::Acquire) {
            return Use::Forgotten;
        }
        let number = count.issued / self.period;
        if let Some(window) = table.window(number, count.tag) {
            return window.admit(count.nc);
        }
        if table.tracked >= self.capacity {
            let floor = table.make_room(self.capacity);
            self.floor.fetch_max(floor, Ordering::AcqRel);
            if count.issued < floor {
                return Use::Forgotten;
            }
        }
        table.insert(number, count);
        Use::First
    }

    pub(crate) fn tracked(&self) -> usize {
        self.lock().tracked
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn dropped_early(&self) -> u64 {
        self.lock().dropped_early
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn window(&mut self, number: u64, tag: u64) -> Option<&mut Window> {
        let period = self.periods.iter_mut().find(|p| p.number == number)?;
        period.seen.get_mut(&tag)
    }

    fn insert(&mut self, number: u64, count: Count) {
        let place = self.periods.partition_point(|p| p.number < number);
        if self.periods.get(place).is_none_or(|p| p.number != number) {
            let seen = HashMap::new();
            let youngest = count.issued;
            self.periods.insert(
                place,
                Period {
                    number,
                    youngest,
                    seen,
                },
            );
        }
        if let Some(period) = self.periods.get_mut(place) {
            period.youngest = period.youngest.max(count.issued);
            period.seen.insert(count.tag, Window::starting(count.nc));
            self.tracked = self.tracked.saturating_add(1);
        }
    }

    fn expire(&mut self, now: u64, period: u64, lifetime: u64) {
        while let Some(oldest) = self.periods.front() {
            let end = oldest.number.saturating_add(1).saturating_mul(period);
            if end.saturating_add(lifetime) > now {
                return;
            }
            self.remove_oldest();
        }
    }

    /// Drops the oldest periods until there is room, and gives the time before which nonces are now stale: just after the
    /// youngest that was dropped, so that nothing dropped can be replayed and nobody else is asked again.
    fn make_room(&mut self, capacity: usize) -> u64 {
        let mut floor = 0;
        while self.tracked >= capacity {
            let Some(oldest) = self.periods.front() else {
                break;
            };
            floor = oldest.youngest.saturating_add(1).max(floor);
            let dropped = oldest.seen.len() as u64;
            self.dropped_early = self.dropped_early.saturating_add(dropped);
            self.remove_oldest();
        }
        floor
    }

    fn remove_oldest(&mut self) {
        if let Some(period) = self.periods.pop_front() {
            self.tracked = self.tracked.saturating_sub(period.seen.len());
        }
    }
}

/// The counts seen with one nonce: the highest, and which of the 64 below it. Older ones count as seen.
///
/// Requests overtake each other on UDP, so a count below the highest is not a replay by itself.
struct Window {
    highest: u32,
    below: u64,
}

impl Window {
    fn starting(nc: u32) -> Self {
        Window {
            highest: nc,
            below: 0,
        }
    }

    fn admit(&mut self, nc: u32) -> Use {
        if nc > self.highest {
            let ahead = nc - self.highest;
            let kept = self.below.checked_shl(ahead).unwrap_or(0);
            let highest = 1u64.checked_shl(ahead - 1).unwrap_or(0);
            self.below = kept | highest;
            self.highest = nc;
            return Use::First;
        }
        let Some(bit) = (self.highest - nc)
            .checked_sub(1)
            .and_then(|behind| 1u64.checked_shl(behind))
        else {
            return Use::Again;
        };
        if self.below & bit != 0 {
            return Use::Again;
        }
        self.below |= bit;
        Use::First
    }
}

/// Periods in one lifetime: what a full table forgets at a time is an eighth of what it holds.
const PERIODS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn count(tag: u64, issued: u64, nc: u32) -> Count {
        Count { tag, issued, nc }
    }

    #[test]
    fn each_count_is_admitted_once_in_any_order() {
        let guard = ReplayGuard::new(10, 8_000);
        for nc in [3, 1, 2, 70, 10, 69, 71] {
            assert_eq!(guard.note(NOW, count(1, NOW, nc)), Use::First, "{nc}");
        }
        for nc in [3, 1, 2, 70, 10, 69, 71] {
            assert_eq!(guard.note(NOW, count(1, NOW, nc)), Use::Again, "{nc}");
        }
        assert_eq!(guard.tracked(), 1);
    }

    #[test]
    fn a_count_further_back_than_the_window_counts_as_seen() {
        let guard = ReplayGuard::new(10, 8_000);
        assert_eq!(guard.note(NOW, count(1, NOW, 100)), Use::First);
        assert_eq!(guard.note(NOW, count(1, NOW, 36)), Use::First);
        assert_eq!(guard.note(NOW, count(1, NOW, 35)), Use::Again);
        assert_eq!(guard.note(NOW, count(1, NOW, u32::MAX)), Use::First);
        assert_eq!(guard.note(NOW, count(1, NOW, 100)), Use::Again);
    }

    #[test]
    fn the_window_agrees_with_a_plain_set() {
        use proptest::prelude::*;
        proptest!(|(counts in proptest::collection::vec(1u32..200, 1..300))| {
            let mut window = None::<Window>;
            let mut seen = std::collections::BTreeSet::new();
            for nc in counts {
                let highest = seen.last().copied().unwrap_or(0);
                let expected = !seen.contains(&nc) && nc.saturating_add(64) >= highest;
                let admitted = match &mut window {
                    None => { window = Some(Window::starting(nc)); true }
                    Some(window) => window.admit(nc) == Use::First,
                };
                prop_assert_eq!(admitted, expected, "nc {} after highest {}", nc, highest);
                seen.insert(nc);
            }
        });
    }

    #[test]
    fn entries_leave_when_their_nonces_have_expired() {
        let guard = ReplayGuard::new(1_000, 8_000);
        for step in 0..100u64 {
            let now = NOW + step * 1_000;
            assert_eq!(guard.note(now, count(step, now, 1)), Use::First);
            assert!(guard.tracked() <= 10, "{} at step {step}", guard.tracked());
        }
        assert_eq!(guard.dropped_early(), 0);
    }

    #[test]
    fn a_full_table_forgets_its_oldest_nonces_and_calls_them_stale() {
        let guard = ReplayGuard::new(4, 8_000);
        for step in 0..4u64 {
            let issued = NOW + step * 1_000;
            assert_eq!(guard.note(NOW + 3_000, count(step, issued, 1)), Use::First);
        }
        let now = NOW + 4_000;
        assert_eq!(guard.note(now, count(9, now, 1)), Use::First);
        assert!(guard.tracked() <= 4);
        assert_eq!(guard.note(now, count(0, NOW, 2)), Use::Forgotten);
        assert_eq!(guard.note(now, count(0, NOW, 1)), Use::Forgotten);
        assert_eq!(guard.note(now, count(3, NOW + 3_000, 1)), Use::Again);
        assert_eq!(guard.dropped_early(), 1);
    }

    #[test]
    fn a_burst_beyond_the_cap_locks_nobody_out_and_replays_nothing() {
        let guard = ReplayGuard::new(4, 8_000);
        let mut admitted = Vec::new();
        for tag in 0..100u64 {
            // Each client is challenged, and challenged again once if its nonce was forgotten meanwhile.
            let mut issued = guard.issue_time(NOW);
            if guard.note(NOW, count(tag, issued, 1)) != Use::First {
                issued = guard.issue_time(NOW);
                assert_eq!(guard.note(NOW, count(tag, issued, 1)), Use::First, "{tag}");
            }
            admitted.push(count(tag, issued, 1));
            assert!(guard.tracked() <= 4);
        }
        for used in admitted {
            assert_ne!(guard.note(NOW, used), Use::First, "tag {}", used.tag);
        }
    }
}
