//! Alarms of many holders: a timing wheel of six levels with 64 places each (Varghese and Lauck, 1987).
//!
//! A holder keeps its own times and has one entry in here, no later than its earliest time. Inserting, moving and taking out
//! an entry are a few instructions each, whatever the number of entries. An entry that comes up too early is put back by its
//! holder, so that a time which only moves away, as that of most transactions does, costs nothing.

mod tick;
mod wheel;

pub(crate) use tick::{Clock, Tick, earlier};
#[cfg(test)]
pub(crate) use wheel::NODE_SIZE;
pub(crate) use wheel::{Entry, TimerQueue};

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
