//! Identifiers, and the seeded source that makes them.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt;
use std::time::Duration;

/// Makes every unguessable value that the protocol wants, from one seed.
///
/// Two sources with one seed give the same values in the same order, so that a test run can be played again.
pub struct IdSource {
    generator: StdRng,
    /// Its values can be predicted.
    is_short: bool,
    /// Marks branches, so that every shard knows whose an answer is.
    shard: Option<u8>,
}

impl IdSource {
    /// Makes a source whose values follow from `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self {
            generator: StdRng::from_seed(seed),
            is_short: false,
            shard: None,
        }
    }

    /// Makes a source from a short seed, for tests.
    pub fn from_number(seed: u64) -> Self {
        Self {
            generator: StdRng::seed_from_u64(seed),
            is_short: true,
            shard: None,
        }
    }

    /// Makes a source that nobody can predict, seeded by the operating system.
    pub fn unpredictable() -> Self {
        Self {
            generator: rand::make_rng(),
            is_short: false,
            shard: None,
        }
    }

    /// Marks every branch from now on as that of one shard.
    pub(crate) fn of_shard(mut self, shard: u8) -> Self {
        self.shard = Some(shard);
        self
    }

    /// Splits off a source of its own, for another shard or task.
    pub fn split(&mut self) -> Self {
        Self {
            is_short: self.is_short,
            ..Self::from_seed(self.generator.random())
        }
    }

    /// Says whether it was made, or split off one that was made, from a short seed: then a test wants to be played again.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Makes a branch with the magic cookie of RFC 3261 §8.1.1.7 and 96 random bits.
    pub fn branch(&mut self) -> Branch {
        let mut text = String::with_capacity(BRANCH_COOKIE.len() + RANDOM_IN_BRANCH + 2);
        text.push_str(BRANCH_COOKIE);
        self.push_token(&mut text, RANDOM_IN_BRANCH);
        if let Some(shard) = self.shard {
            text.push(letter(shard >> 5));
            text.push(letter(shard & 31));
        }
        Branch(text.into())
    }

    /// Makes a tag with 80 random bits; RFC 3261 §19.3 wants at least 32.
    pub fn tag(&mut self) -> Tag {
        let mut text = String::with_capacity(16);
        self.push_token(&mut text, 16);
        Tag(text.into())
    }

    /// Makes a Call-ID with 120 random bits and no host, which would tell where it was made.
    pub fn call_id(&mut self) -> CallId {
        let mut text = String::with_capacity(24);
        self.push_token(&mut text, 24);
        CallId(text.into())
    }

    /// Returns 64 random bits.
    pub fn number(&mut self) -> u64 {
        self.generator.random()
    }

    /// Returns a number in `low..=high`, or `low` where the range is empty.
    pub fn number_in(&mut self, low: u64, high: u64) -> u64 {
        if high <= low {
            return low;
        }
        self.generator.random_range(low..=high)
    }

    /// Returns a duration in `low..=high` by the microsecond, for jitter.
    pub fn duration_in(&mut self, low: Duration, high: Duration) -> Duration {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.number_in(micros(low), micros(high)))
    }

    /// Fills `bytes` with random bits.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.generator.fill(bytes);
    }

    /// Appends `count` characters of five random bits each.
    ///
    /// The alphabet has one case only, for peers that fold it.
    fn push_token(&mut self, text: &mut String, count: usize) {
        let mut bits = 0_u64;
        for place in 0..count {
            if place % 12 == 0 {
                bits = self.generator.random();
            }
            text.push(letter((bits & 31) as u8));
            bits >>= 5;
        }
    }
}

impl fmt::Debug for IdSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IdSource")
    }
}

/// Names the shard that made a branch, if a shard of ours may have.
pub(crate) fn shard_of(branch: &str) -> Option<usize> {
    // Some fold its case.
    let place = |letter: &u8| {
        let letter = letter.to_ascii_lowercase();
        ALPHABET.iter().position(|known| *known == letter)
    };
    let mark = branch
        .as_bytes()
        .get(BRANCH_COOKIE.len() + RANDOM_IN_BRANCH..)?;
    let [high, low] = mark else { return None };
    Some(place(high)? << 5 | place(low)?)
}

fn letter(bits: u8) -> char {
    char::from(ALPHABET.get(usize::from(bits)).copied().unwrap_or(b'a'))
}

/// Characters of five random bits in a branch.
const RANDOM_IN_BRANCH: usize = 20;

const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The first bytes of a branch made after RFC 3261 (§8.1.1.7).
pub(crate) const BRANCH_COOKIE: &str = "z9hG4bK";

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// Wraps a text that is known to be one.
            pub fn new(text: impl Into<Box<str>>) -> Self {
                Self(text.into())
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// Names a transaction in a Via header field.
    Branch
}
text_id! {
    /// Names one side of a dialog in From or To.
    Tag
}
text_id! {
    /// Names a series of messages.
    CallId
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(crate) u64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:x}", self.0)
            }
        }
    };
}

number_id! {
    /// Names a request of ours through all its attempts. Never used twice by one endpoint.
    RequestId
}
number_id! {
    /// Names one try of a request at one target.
    AttemptId
}
number_id! {
    /// Names a request that was received and waits for an answer. That of an ACK takes none.
    ServerTransactionId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_series() {
        let (mut one, mut other) = (IdSource::from_number(7), IdSource::from_number(7));
        assert_eq!(one.branch(), other.branch());
        assert_eq!(one.tag(), other.tag());
        assert_eq!(one.call_id(), other.call_id());
        assert_ne!(one.branch(), IdSource::from_number(8).branch());
    }

    #[test]
    fn branches_begin_with_the_magic_cookie_and_differ() {
        let mut ids = IdSource::from_number(1);
        let branches: std::collections::HashSet<_> = (0..10_000).map(|_| ids.branch()).collect();
        assert_eq!(branches.len(), 10_000);
        assert!(
            branches
                .iter()
                .all(|branch| branch.as_str().starts_with("z9hG4bK"))
        );
    }

    #[test]
    fn a_branch_tells_its_shard() {
        let mut ids = IdSource::from_number(1);
        assert_eq!(shard_of(ids.branch().as_str()), None);
        for shard in 0..=255 {
            let branch = ids.split().of_shard(shard).branch();
            assert_eq!(shard_of(branch.as_str()), Some(usize::from(shard)));
            let folded = branch.as_str().to_ascii_uppercase();
            assert_eq!(shard_of(&folded), Some(usize::from(shard)));
        }
        for stranger in [
            "",
            "z9hG4bK",
            "z9hG4bK776asdhds",
            "z9hG4bK01234567890123456789!a",
        ] {
            assert_eq!(shard_of(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn split_sources_go_their_own_way() {
        let mut ids = IdSource::from_number(1);
        let mut other = ids.split();
        assert_ne!(ids.number(), other.number());
    }

    #[test]
    fn an_empty_range_gives_its_low_end() {
        let mut ids = IdSource::from_number(1);
        assert_eq!(ids.number_in(5, 5), 5);
        assert_eq!(ids.number_in(5, 1), 5);
        let jitter = ids.duration_in(Duration::from_millis(10), Duration::from_millis(20));
        assert!((10..=20).contains(&jitter.as_millis()));
    }
}
