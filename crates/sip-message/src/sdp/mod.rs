//! Session descriptions (RFC 8866), with the attributes that calls need typed. Feature `sdp`.
//!
//! [`SessionDescription`] and its [`MediaDescription`]s are what sdp-types makes of the bytes; attributes stay text
//! until they are asked for, so that one nobody understands, or that is malformed, costs its neighbours nothing.
//!
//! ```
//! use sipora_message::sdp::{Direction, MediaDescription, RtpMap, SessionDescription};
//!
//! let offer = SessionDescription::new("3724394400", 1, "192.0.2.1".parse()?)
//!     .with_media(
//!         MediaDescription::audio(49170)
//!             .with_rtpmap(&RtpMap::new(0, "PCMU", 8000))
//!             .with_rtpmap(&RtpMap::new(101, "telephone-event", 8000))
//!             .with_attribute("fmtp", Some("101 0-15"))?
//!             .with_direction(Direction::SendOnly),
//!     );
//! let read = SessionDescription::parse(offer.to_string().as_bytes())?;
//! let audio = &read.media()[0];
//! assert_eq!(read.direction_of(audio), Direction::SendOnly);
//! assert_eq!(read.connection_of(audio).unwrap().ip(), Some("192.0.2.1".parse()?));
//! assert_eq!(audio.rtpmaps().map(|map| map.encoding).collect::<Vec<_>>(), ["PCMU", "telephone-event"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attribute;
mod ice;
mod media;
mod security;
mod session;

pub use attribute::{Direction, Fmtp, Group, RtcpAddress, RtpMap};
pub use ice::{Candidate, CandidateKind};
pub use media::MediaDescription;
pub use security::{Crypto, Fingerprint, Setup};
pub use session::{Bandwidth, Connection, SdpError, SessionDescription};

/// What lines a session description is refused past: the longest in practice, of a conference with a hundred
/// participants, has a tenth of it. Each line costs about a hundred bytes.
const MAX_LINES: usize = 20_000;

/// Attributes with their values, in order.
fn attributes(list: &[sdp_types::Attribute]) -> impl Iterator<Item = (&str, Option<&str>)> {
    list.iter()
        .map(|found| (found.attribute.as_str(), found.value.as_deref()))
}

/// The values of all attributes of that name that have one.
fn values<'a, 'n>(
    list: &'a [sdp_types::Attribute],
    name: &'n str,
) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
    list.iter()
        .filter(move |found| found.attribute == name)
        .filter_map(|found| found.value.as_deref())
}

fn checked(name: &str, value: Option<&str>) -> Result<sdp_types::Attribute, SdpError> {
    let ends_line = |text: &str| text.bytes().any(crate::builder::is_injection);
    if name.is_empty() || name.contains(':') || ends_line(name) || value.is_some_and(ends_line) {
        return Err(SdpError::attribute());
    }
    Ok(sdp_types::Attribute {
        attribute: name.into(),
        value: value.map(Into::into),
    })
}

/// An attribute that was printed by this crate.
fn own(name: &str, value: impl std::fmt::Display) -> sdp_types::Attribute {
    let clean = |c: char| !matches!(c, '\r' | '\n' | '\0');
    let value = value.to_string();
    sdp_types::Attribute {
        attribute: name.into(),
        value: Some(value.chars().filter(|c| clean(*c)).collect()),
    }
}
