//! The races of RFC 5407, as its sections and appendices number them. The user agent is that of whom the section tells; the phone
//! plays the other. Each runs on a perfect network, where the messages cross as the section draws them, and on bad ones, where what
//! is lost comes again and what was sent first may come last: whatever happens, both sides end as the section says.

mod appendices;
mod glare;
mod moratorium;
mod mortal;
