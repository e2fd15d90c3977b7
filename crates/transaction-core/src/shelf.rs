//! Final answers, kept apart from everything that lives longer.
//!
//! Each waits some 32 s for a retransmission. Were they allocated one by one, they would lie among what the application keeps
//! of the same requests (a registrar's bindings), and the holes that they leave there go back to no operating system: memory
//! would stay at its peak for as long as the bindings live. Here they stand in one vector, which shrinks.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

/// Keeps texts one after the other, in segments that are used again when all that stood in them is gone.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// The segments, one after the other, as far as they have been filled.
    bytes: Vec<u8>,
    /// How many texts stand in each.
    counts: Vec<u32>,
    /// Segments in which nothing stands, [`current`](Self::current) aside. The lowest is used first, so that the end falls free.
    free: BTreeSet<u32>,
    /// The segment that is filled now, and up to where it is full.
    current: Option<(u32, usize)>,
}

/// A text on a shelf. It has to be [removed](Shelf::remove).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    at: u32,
    len: NonZeroU16,
}

impl Shelf {
    /// Puts a text on the shelf; `None` where it is empty or too long, or the shelf full.
    pub(crate) fn insert(&mut self, text: &[u8]) -> Option<Kept> {
        let len = u16::try_from(text.len()).ok().and_then(NonZeroU16::new);
        let len = len.filter(|len| len.get() <= LONGEST)?;
        let (segment, used) = match self.current {
            Some((segment, used)) if used + text.len() <= SEGMENT => (segment, used),
            _ => (self.turn()?, 0),
        };
        let at = segment as usize * SEGMENT + used;
        match self.bytes.get_mut(at..at + text.len()) {
            Some(room) => room.copy_from_slice(text),
            None => {
                // Behind the end, or over it; what was left free in the segment before is filled.
                self.bytes.truncate(at);
                self.bytes.resize(at, 0);
                self.bytes.extend_from_slice(text);
            }
        }
        *self.counts.get_mut(segment as usize)? += 1;
        self.current = Some((segment, used + text.len()));
        Some(Kept { at: at as u32, len })
    }

    pub(crate) fn get(&self, kept: Kept) -> &[u8] {
        let at = kept.at as usize;
        self.bytes
            .get(at..at + usize::from(kept.len.get()))
            .unwrap_or_default()
    }

    /// Takes a text away, and gives memory back where most of it stands empty.
    pub(crate) fn remove(&mut self, kept: Kept) {
        let segment = kept.at / SEGMENT as u32;
        let Some(count) = self.counts.get_mut(segment as usize) else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return;
        }
        match &mut self.current {
            // It is filled again from its beginning.
            Some((current, used)) if *current == segment => *used = 0,
            _ => {
                self.free.insert(segment);
            }
        }
        self.trim();
    }

    /// Leaves the segment that is full for another.
    fn turn(&mut self) -> Option<u32> {
        if let Some((full, _)) = self.current.take()
            && self.counts.get(full as usize) == Some(&0)
        {
            self.free.insert(full);
        }
        if let Some(segment) = self.free.pop_first() {
            return Some(segment);
        }
        let segment = u32::try_from(self.counts.len())
            .ok()
            .filter(|segment| *segment < MOST_SEGMENTS)?;
        self.counts.push(0);
        let needed = self.counts.len() * SEGMENT;
        if self.bytes.capacity() < needed {
            // By a thirty-second: large blocks grow without being copied where the system can move pages, and doubling would leave
            // half of the memory idle.
            let filled = self.bytes.len();
            self.bytes
                .reserve_exact(needed.max(filled + filled / 32) - filled);
        }
        Some(segment)
    }

    fn trim(&mut self) {
        // Each segment that is dropped here was added before, so this costs nothing on the whole. The first stays.
        while let Some(last) = self.counts.len().checked_sub(1).filter(|last| *last > 0) {
            let last = last as u32;
            let is_idle = self.current == Some((last, 0));
            if !self.free.remove(&last) && !is_idle {
                break;
            }
            if is_idle {
                self.current = None;
            }
            self.counts.pop();
        }
        let kept = self.counts.len() * SEGMENT;
        self.bytes.truncate(kept);
        if self.bytes.capacity() > 4 * kept.max(SEGMENT) {
            self.bytes.shrink_to(2 * kept);
            self.counts.shrink_to(2 * self.counts.len());
        }
    }
}

/// Bytes that are used again together: some eighty answers.
const SEGMENT: usize = 32 * 1024;

/// The longest text that is taken. What is left at the end of a segment is less than that.
const LONGEST: u16 = 2048;

/// Their bytes are counted by 32 bits.
const MOST_SEGMENTS: u32 = u32::MAX / SEGMENT as u32;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: usize) -> Vec<u8> {
        number.to_string().repeat(1 + number % 97).into_bytes()
    }

    #[test]
    fn each_text_is_found_until_it_is_taken_away_whatever_goes_before_it() {
        let mut shelf = Shelf::default();
        let mut held: Vec<(usize, Kept)> = Vec::new();
        for number in 0..50_000 {
            held.push((number, shelf.insert(&text(number)).unwrap()));
            if held.len() > 2_000 {
                // Some go in order and some out of it.
                let (_, gone) =
                    held.swap_remove(number * 7 % if number % 3 == 0 { 2_000 } else { 5 });
                shelf.remove(gone);
            }
            if number % 1_000 == 0 {
                for (number, kept) in &held {
                    assert_eq!(shelf.get(*kept), text(*number));
                }
            }
        }
        assert!(shelf.bytes.len() < 4 * 2_000 * 500, "{}", shelf.bytes.len());
        for (number, kept) in held {
            assert_eq!(shelf.get(kept), text(number));
            shelf.remove(kept);
        }
        assert!(shelf.bytes.capacity() <= 4 * SEGMENT);
    }

    #[test]
    fn what_a_burst_took_is_given_back_while_a_few_go_on() {
        let mut shelf = Shelf::default();
        let burst: Vec<Kept> = (0..100_000)
            .map(|_| shelf.insert(&[b'x'; 400]).unwrap())
            .collect();
        assert!(shelf.bytes.capacity() >= 100_000 * 400);
        // As each of the burst goes, another comes and stays a while, until there are none of the burst left.
        let mut few = std::collections::VecDeque::new();
        for (number, kept) in burst.into_iter().enumerate() {
            shelf.remove(kept);
            if number % 10 == 0 {
                few.push_back(shelf.insert(&[b'y'; 400]).unwrap());
            }
            if few.len() > 100 {
                shelf.remove(few.pop_front().unwrap());
            }
        }
        let full = few.len() * 400 + SEGMENT;
        assert!(
            shelf.bytes.capacity() <= 8 * full,
            "{} of {full}",
            shelf.bytes.capacity()
        );
        assert!(few.iter().all(|kept| shelf.get(*kept) == [b'y'; 400]));
    }

    #[test]
    fn one_text_at_a_time_needs_one_segment() {
        let mut shelf = Shelf::default();
        for _ in 0..10_000 {
            let kept = shelf.insert(&[0; 999]).unwrap();
            assert!(shelf.bytes.len() <= SEGMENT);
            assert_eq!(shelf.bytes.capacity(), SEGMENT);
            shelf.remove(kept);
        }
    }

    #[test]
    fn a_text_that_is_empty_or_too_long_is_not_taken() {
        let mut shelf = Shelf::default();
        assert!(shelf.insert(&[0; 2049]).is_none());
        assert!(shelf.insert(&[0; 2048]).is_some());
        assert!(shelf.insert(&[]).is_none());
    }
}
