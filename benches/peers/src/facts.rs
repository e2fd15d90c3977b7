//! The values that the job reads.

use std::fmt::Display;
use std::hint::black_box;

/// One value that every parser has to hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Host of the Request-URI; responses have none.
    TargetHost,
    /// Branch of the top Via.
    Branch,
    FromTag,
    /// Empty where To has no tag.
    ToTag,
    CallId,
    CSeqNumber,
    CSeqMethod,
    /// Host of the first Contact; nothing where there is none.
    ContactHost,
    /// Port of the first Contact, 0 where it has none.
    ContactPort,
}

/// Where values go: compared when the parsers are checked, thrown away when they are timed.
pub trait Sink {
    fn see<T: Display + ?Sized>(&mut self, field: Field, value: &T);
}

/// Keeps the optimiser from leaving a value out, at no cost.
pub struct Discard;

impl Sink for Discard {
    #[inline]
    fn see<T: Display + ?Sized>(&mut self, _: Field, value: &T) {
        black_box(value);
    }
}

/// Keeps the values as text.
#[derive(Debug, Default, PartialEq)]
pub struct Collect(pub Vec<(Field, String)>);

impl Sink for Collect {
    fn see<T: Display + ?Sized>(&mut self, field: Field, value: &T) {
        self.0.push((field, value.to_string()));
    }
}
