//! Searches over bytes.
//!
//! Every loop over input goes through here or through [`classes`](crate::classes), so that in this crate's own tests
//! each byte that is looked at can be counted: that no parser takes quadratic time is proved by that count, not by a
//! clock. Outside of tests the counter does not exist.

/// The first place of a byte.
#[inline]
pub(crate) fn find(needle: u8, bytes: &[u8]) -> Option<usize> {
    counted(memchr::memchr(needle, bytes), bytes)
}

/// The first place of a byte that is expected within a few dozen bytes: eight at a time, without the cost of starting a
/// vector search.
#[inline]
pub(crate) fn near(needle: u8, bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks();
    for (at, word) in words.iter().enumerate() {
        if let Some(found) = first_in(u64::from_le_bytes(*word), needle) {
            return counted(Some(8 * at + found), bytes);
        }
    }
    let found = rest.iter().position(|byte| *byte == needle);
    counted(found.map(|found| 8 * words.len() + found), bytes)
}

/// The first place of a byte in a little-endian word.
#[inline]
pub(crate) fn first_in(word: u64, needle: u8) -> Option<usize> {
    let found = zeros(word ^ (ONES * needle as u64));
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

const ONES: u64 = u64::MAX / 255;

/// A word in which the lowest bit that is set is in the first zero byte, if there is one.
#[inline]
fn zeros(word: u64) -> u64 {
    // A borrow can only set bits above that.
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

/// The first place of a CR or LF, which is expected within a line's length: on x86-64 without the choice between vector
/// widths that [`find2`] begins with, which costs more than such a search.
#[inline]
pub(crate) fn line_end(bytes: &[u8]) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if let Some(ends) = memchr::arch::x86_64::sse2::memchr::Two::new(b'\r', b'\n') {
        return counted(ends.find(bytes), bytes);
    }
    find2(b'\r', b'\n', bytes)
}

/// The first place of either byte.
#[inline]
pub(crate) fn find2(one: u8, two: u8, bytes: &[u8]) -> Option<usize> {
    counted(memchr::memchr2(one, two, bytes), bytes)
}

/// The first place of any of three bytes.
#[inline]
pub(crate) fn find3(one: u8, two: u8, three: u8, bytes: &[u8]) -> Option<usize> {
    counted(memchr::memchr3(one, two, three, bytes), bytes)
}

/// The last place of a byte.
#[inline]
pub(crate) fn rfind(needle: u8, bytes: &[u8]) -> Option<usize> {
    visit(bytes.len());
    memchr::memrchr(needle, bytes)
}

/// The first place of a text; linear whatever the text (two-way search).
pub(crate) fn find_text(needle: &[u8], bytes: &[u8]) -> Option<usize> {
    visit(needle.len());
    counted(memchr::memmem::find(bytes, needle), bytes)
}

/// The first place where a condition holds.
#[inline]
pub(crate) fn position(bytes: &[u8], holds: impl FnMut(&u8) -> bool) -> Option<usize> {
    counted(bytes.iter().position(holds), bytes)
}

/// How many bytes at the start fulfil a condition.
#[inline]
pub(crate) fn count_while(bytes: &[u8], mut holds: impl FnMut(&u8) -> bool) -> usize {
    position(bytes, |byte| !holds(byte)).unwrap_or(bytes.len())
}

/// The bytes as text, if they are UTF-8.
#[inline]
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    visit(bytes.len());
    std::str::from_utf8(bytes).ok()
}

/// Whether the bytes are UTF-8.
#[inline]
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    visit(bytes.len());
    bytes.is_ascii() || text(bytes).is_some()
}

#[inline]
fn counted(found: Option<usize>, bytes: &[u8]) -> Option<usize> {
    visit(found.map_or(bytes.len(), |at| at + 1));
    found
}

/// Notes that so many bytes were looked at.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn visit(_bytes: usize) {}

#[cfg(test)]
pub(crate) use counter::{visit, visited};

#[cfg(test)]
mod counter {
    use std::cell::Cell;

    thread_local! {
        static VISITED: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn visit(bytes: usize) {
        VISITED.with(|visited| visited.set(visited.get() + bytes as u64));
    }

    /// How many bytes `work` looks at.
    pub(crate) fn visited(work: impl FnOnce()) -> u64 {
        let before = VISITED.with(Cell::get);
        work();
        VISITED.with(Cell::get) - before
    }
}
