//! The session level of a description (RFC 8866 §5).

use std::fmt;
use std::net::IpAddr;

use super::{
    Direction, Fingerprint, Group, MAX_LINES, MediaDescription, Setup, attributes, checked, own,
    values,
};

/// A session description: what is said for all media, and the media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDescription {
    /// Without its media.
    session: sdp_types::Session,
    media: Vec<MediaDescription>,
}

/// An address to which media are sent (`c=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection<'a> {
    address: &'a str,
}

/// A bandwidth (`b=`), in the unit of its kind: kilobits a second for `AS` and `CT`, bits for `TIAS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bandwidth {
    /// `AS`, `CT`, `TIAS`, `RS`, `RR` or another.
    pub kind: String,
    /// How much.
    pub value: u64,
}

/// Bytes that are no session description, or a text that cannot stand in one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("session description: {0}")]
pub struct SdpError(Box<str>);

impl SessionDescription {
    /// Parses the body of type `application/sdp`. Lines in an unusual order, and lone line feeds, are read.
    pub fn parse(bytes: &[u8]) -> Result<SessionDescription, SdpError> {
        if memchr::memchr_iter(b'\n', bytes).count() > MAX_LINES
            || memchr::memchr_iter(b'\r', bytes).count() > MAX_LINES
        {
            return Err(SdpError("too many lines".into()));
        }
        let mut session =
            sdp_types::Session::parse(bytes).map_err(|error| SdpError(error.to_string().into()))?;
        let media = std::mem::take(&mut session.medias);
        Ok(SessionDescription {
            session,
            media: media
                .into_iter()
                .map(MediaDescription::from_inner)
                .collect(),
        })
    }

    /// A description without media: the identifier (digits) and version of the session, and the address to which media
    /// go.
    pub fn new(session_id: &str, version: u64, address: IpAddr) -> SessionDescription {
        let origin = sdp_types::Origin::with_ip_addr(digits(session_id), version, address);
        let mut session = sdp_types::Session::new(origin, "-");
        session.set_connection(sdp_types::Connection::from_ip_addr(address));
        SessionDescription {
            session,
            media: Vec::new(),
        }
    }

    /// Appends a medium.
    pub fn with_media(mut self, media: MediaDescription) -> SessionDescription {
        self.media.push(media);
        self
    }

    /// Appends an attribute of the session.
    pub fn with_attribute(
        mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<SessionDescription, SdpError> {
        self.session.attributes.push(checked(name, value)?);
        Ok(self)
    }

    /// Appends a group of media (RFC 5888).
    pub fn with_group(mut self, group: &Group<'_>) -> SessionDescription {
        self.session.attributes.push(own("group", group));
        self
    }

    /// Sets the version in the origin: an answer or a new offer that changes anything raises it by one (RFC 3264 §8).
    pub fn with_version(mut self, version: u64) -> SessionDescription {
        self.session.origin.sess_version = version;
        self
    }

    /// The identifier in the origin.
    pub fn session_id(&self) -> &str {
        &self.session.origin.sess_id
    }

    /// The version in the origin.
    pub fn version(&self) -> u64 {
        self.session.origin.sess_version
    }

    /// The user in the origin, if it is not `-`.
    pub fn username(&self) -> Option<&str> {
        self.session.origin.username.as_deref()
    }

    /// The address in the origin. It names the session and need not be reachable.
    pub fn origin_address(&self) -> &str {
        &self.session.origin.unicast_address
    }

    /// The name of the session.
    pub fn name(&self) -> &str {
        &self.session.session_name
    }

    /// The address to which media go unless they say another.
    pub fn connection(&self) -> Option<Connection<'_>> {
        self.session.connection.as_ref().map(Connection::of)
    }

    /// The bandwidths of the session.
    pub fn bandwidths(&self) -> impl Iterator<Item = Bandwidth> + '_ {
        self.session.bandwidths.iter().map(Bandwidth::of)
    }

    /// The media in order. An answer has as many, in the same order (RFC 3264 §6).
    pub fn media(&self) -> &[MediaDescription] {
        &self.media
    }

    /// The same, to change them.
    pub fn media_mut(&mut self) -> &mut Vec<MediaDescription> {
        &mut self.media
    }

    /// The attributes of the session in order.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        attributes(&self.session.attributes)
    }

    /// The groups of media: `BUNDLE` and others.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        values(&self.session.attributes, "group").filter_map(Group::parse)
    }

    /// Whether the peer is an ICE lite implementation (RFC 8839 §5.3).
    pub fn is_ice_lite(&self) -> bool {
        self.attributes().any(|(name, _)| name == "ice-lite")
    }

    /// The address to which a medium goes: its own, else the session's.
    pub fn connection_of<'a>(&'a self, media: &'a MediaDescription) -> Option<Connection<'a>> {
        media.connection().or_else(|| self.connection())
    }

    /// The direction of a medium: its own, else the session's, else `sendrecv` (RFC 8866 §6.7).
    pub fn direction_of(&self, media: &MediaDescription) -> Direction {
        let session = || {
            self.attributes()
                .find_map(|(name, _)| Direction::parse(name))
        };
        media.direction().or_else(session).unwrap_or_default()
    }

    /// The fingerprints of a medium: its own, else the session's (RFC 8122 §5).
    pub fn fingerprints_of<'a>(&'a self, media: &'a MediaDescription) -> Vec<Fingerprint<'a>> {
        let own: Vec<_> = media.fingerprints().collect();
        if !own.is_empty() {
            return own;
        }
        values(&self.session.attributes, "fingerprint")
            .filter_map(Fingerprint::parse)
            .collect()
    }

    /// Who opens the connection of a medium: its own word, else the session's (RFC 4145 §4).
    pub fn setup_of(&self, media: &MediaDescription) -> Option<Setup> {
        let session = || values(&self.session.attributes, "setup").find_map(Setup::parse);
        media.setup().or_else(session)
    }

    /// `ice-ufrag` and `ice-pwd` of a medium: its own, else the session's (RFC 8839 §5.4).
    pub fn ice_credentials_of<'a>(
        &'a self,
        media: &'a MediaDescription,
    ) -> Option<(&'a str, &'a str)> {
        let find = |name| {
            let session = || values(&self.session.attributes, name).next();
            media.value(name).or_else(session)
        };
        find("ice-ufrag").zip(find("ice-pwd"))
    }
}

impl<'a> Connection<'a> {
    pub(super) fn of(connection: &'a sdp_types::Connection) -> Connection<'a> {
        Connection {
            address: &connection.connection_address,
        }
    }

    /// The address as written: a name, or an address with perhaps `/ttl` or `/count`.
    pub fn address(&self) -> &'a str {
        self.address
    }

    /// The IP address; `None` for a name.
    pub fn ip(&self) -> Option<IpAddr> {
        let end = self.address.find('/').unwrap_or(self.address.len());
        self.address.get(..end)?.parse().ok()
    }

    /// Whether it is `0.0.0.0` or `::`, the hold of RFC 2543.
    pub fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }
}

impl Bandwidth {
    pub(super) fn of(found: &sdp_types::Bandwidth) -> Bandwidth {
        Bandwidth {
            kind: found.bwtype.to_string(),
            value: found.bandwidth,
        }
    }
}

impl SdpError {
    pub(super) fn attribute() -> SdpError {
        SdpError("an attribute with a line end, or a name that is none".into())
    }
}

impl fmt::Display for SessionDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut session = self.session.clone();
        session.medias = self
            .media
            .iter()
            .map(MediaDescription::inner)
            .cloned()
            .collect();
        let mut out = Vec::new();
        session.write(&mut out).map_err(|_| fmt::Error)?;
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// The identifier of a session is digits; any other characters are left out, and none at all are 0.
fn digits(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if digits.is_empty() {
        "0".into()
    } else {
        digits
    }
}
