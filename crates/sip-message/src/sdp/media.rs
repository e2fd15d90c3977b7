//! Media descriptions (RFC 8866 §5.14).

use super::session::{Bandwidth, Connection, SdpError};
use super::{
    Candidate, Crypto, Direction, Fingerprint, Fmtp, RtcpAddress, RtpMap, Setup, attributes,
    checked, own, values,
};

/// One medium of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaDescription {
    inner: sdp_types::Media,
}

impl MediaDescription {
    /// Audio over RTP/AVP at a port, without formats yet.
    pub fn audio(port: u16) -> MediaDescription {
        let inner = sdp_types::Media::new(
            sdp_types::MediaType::Audio,
            port,
            sdp_types::TransportProto::RtpAvp,
            "",
        );
        MediaDescription { inner }
    }

    /// A medium of any kind and protocol. Port 0 refuses it (RFC 3264 §6).
    pub fn new(kind: &str, port: u16, protocol: &str) -> Result<MediaDescription, SdpError> {
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte > b' ' && byte < 0x7f);
        if !is_word(kind) || !is_word(protocol) {
            return Err(SdpError::attribute());
        }
        let mut media = MediaDescription::audio(port);
        media.inner.media = kind.into();
        media.inner.proto = protocol.into();
        Ok(media)
    }

    pub(super) fn from_inner(inner: sdp_types::Media) -> MediaDescription {
        MediaDescription { inner }
    }

    pub(super) fn inner(&self) -> &sdp_types::Media {
        &self.inner
    }

    /// Appends a format, as it stands in the `m=` line.
    pub fn with_format(mut self, format: &str) -> Result<MediaDescription, SdpError> {
        if format.is_empty() || format.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(SdpError::attribute());
        }
        self.push_format(format);
        Ok(self)
    }

    /// Appends a payload type to the formats, and its `rtpmap`.
    pub fn with_rtpmap(mut self, map: &RtpMap<'_>) -> MediaDescription {
        self.push_format(&map.payload_type.to_string());
        self.inner.attributes.push(own("rtpmap", map));
        self
    }

    /// Sets the direction.
    pub fn with_direction(mut self, direction: Direction) -> MediaDescription {
        self.inner
            .attributes
            .retain(|found| Direction::parse(&found.attribute).is_none());
        self.inner.attributes.push(sdp_types::Attribute {
            attribute: direction.as_str().into(),
            value: None,
        });
        self
    }

    /// Appends an attribute.
    pub fn with_attribute(
        mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<MediaDescription, SdpError> {
        self.inner.attributes.push(checked(name, value)?);
        Ok(self)
    }

    /// Appends a typed attribute as it prints: a [`Fingerprint`], a [`Candidate`], a [`Crypto`].
    pub fn with_typed(
        mut self,
        name: &str,
        value: impl std::fmt::Display,
    ) -> Result<MediaDescription, SdpError> {
        self.inner
            .attributes
            .push(checked(name, Some(&value.to_string()))?);
        Ok(self)
    }

    /// Sets the address, where it is not the session's.
    pub fn with_connection(mut self, address: std::net::IpAddr) -> MediaDescription {
        self.inner.connections = vec![sdp_types::Connection::from_ip_addr(address)];
        self
    }

    /// Sets the port.
    pub fn set_port(&mut self, port: u16) {
        self.inner.port = port;
    }

    /// The medium: `audio`, `video`, `text`, `application`, `message`, `image` or another.
    pub fn kind(&self) -> &str {
        &self.inner.media
    }

    /// The port; 0 where the medium is refused or over.
    pub fn port(&self) -> u16 {
        self.inner.port
    }

    /// The protocol: `RTP/AVP`, `RTP/SAVP`, `UDP/TLS/RTP/SAVPF` and so on.
    pub fn protocol(&self) -> &str {
        &self.inner.proto
    }

    /// The formats in order of preference: payload types for RTP.
    pub fn formats(&self) -> impl Iterator<Item = &str> {
        self.inner.fmt.split_ascii_whitespace()
    }

    /// The address, if the medium has its own.
    pub fn connection(&self) -> Option<Connection<'_>> {
        self.inner.connections.first().map(Connection::of)
    }

    /// The bandwidths.
    pub fn bandwidths(&self) -> impl Iterator<Item = Bandwidth> + '_ {
        self.inner.bandwidths.iter().map(Bandwidth::of)
    }

    /// The attributes in order.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        attributes(&self.inner.attributes)
    }

    /// Whether an attribute is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.attributes().any(|(found, _)| found == name)
    }

    /// The value of the first attribute of that name.
    pub fn value(&self, name: &str) -> Option<&str> {
        values(&self.inner.attributes, name).next()
    }

    /// The direction, if the medium says one.
    pub fn direction(&self) -> Option<Direction> {
        self.attributes()
            .find_map(|(name, _)| Direction::parse(name))
    }

    /// What the payload types are. Static ones (RFC 3551) need not be listed.
    pub fn rtpmaps(&self) -> impl Iterator<Item = RtpMap<'_>> {
        values(&self.inner.attributes, "rtpmap").filter_map(RtpMap::parse)
    }

    /// The encoding of a payload type: as mapped, else as RFC 3551 has it.
    pub fn rtpmap(&self, payload_type: u8) -> Option<RtpMap<'_>> {
        self.rtpmaps()
            .find(|map| map.payload_type == payload_type)
            .or_else(|| RtpMap::assigned(payload_type))
    }

    /// The parameters of a format.
    pub fn fmtp(&self, format: &str) -> Option<Fmtp<'_>> {
        values(&self.inner.attributes, "fmtp")
            .filter_map(Fmtp::parse)
            .find(|found| found.format == format)
    }

    /// Milliseconds of audio in a packet.
    pub fn ptime(&self) -> Option<u32> {
        self.value("ptime")?.trim().parse().ok()
    }

    /// The most milliseconds of audio in a packet.
    pub fn maxptime(&self) -> Option<u32> {
        self.value("maxptime")?.trim().parse().ok()
    }

    /// Where RTCP goes, if not to the next port (RFC 3605).
    pub fn rtcp(&self) -> Option<RtcpAddress<'_>> {
        self.value("rtcp").and_then(RtcpAddress::parse)
    }

    /// Whether RTP and RTCP may share a port (RFC 5761).
    pub fn has_rtcp_mux(&self) -> bool {
        self.has("rtcp-mux")
    }

    /// The name of the medium, which groups refer to (RFC 5888).
    pub fn mid(&self) -> Option<&str> {
        self.value("mid")
    }

    /// The label of the medium (RFC 4574).
    pub fn label(&self) -> Option<&str> {
        self.value("label")
    }

    /// Who opens the connection (RFC 4145).
    pub fn setup(&self) -> Option<Setup> {
        values(&self.inner.attributes, "setup").find_map(Setup::parse)
    }

    /// The fingerprints of certificates (RFC 8122).
    pub fn fingerprints(&self) -> impl Iterator<Item = Fingerprint<'_>> {
        values(&self.inner.attributes, "fingerprint").filter_map(Fingerprint::parse)
    }

    /// The keys for SRTP (RFC 4568).
    pub fn cryptos(&self) -> impl Iterator<Item = Crypto<'_>> {
        values(&self.inner.attributes, "crypto").filter_map(Crypto::parse)
    }

    /// The addresses at which ICE may find the medium (RFC 8839). Malformed ones are left out, as §5.1 has it.
    pub fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        values(&self.inner.attributes, "candidate").filter_map(Candidate::parse)
    }

    fn push_format(&mut self, format: &str) {
        if !self.inner.fmt.is_empty() {
            self.inner.fmt.push(' ');
        }
        self.inner.fmt.push_str(format);
    }
}
