//! Attributes of media and their formats (RFC 8866 §6, RFC 3605, RFC 5888).

use std::fmt;
use std::net::IpAddr;

/// Which way media flow, as the sender of the description sees it (RFC 8866 §6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both ways; also what is meant where nothing is said.
    #[default]
    SendRecv,
    /// From its sender only: a call on hold.
    SendOnly,
    /// To its sender only.
    RecvOnly,
    /// Neither way.
    Inactive,
}

/// What a payload type is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RtpMap<'a> {
    /// 0 to 127.
    pub payload_type: u8,
    /// The encoding, compared without case: `PCMU`, `opus`, `telephone-event`.
    pub encoding: &'a str,
    /// Ticks a second.
    pub clock_rate: u32,
    /// For audio, the number of channels.
    pub channels: Option<u32>,
}

/// The parameters of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fmtp<'a> {
    /// The format: a payload type for RTP.
    pub format: &'a str,
    /// The parameters as written.
    pub params: &'a str,
}

/// Where RTCP goes (RFC 3605).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RtcpAddress<'a> {
    /// The port.
    pub port: u16,
    /// The address, if it is not the medium's.
    pub address: Option<&'a str>,
}

/// Media that belong together (RFC 5888).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group<'a> {
    /// How: `BUNDLE`, `LS` or another.
    pub semantics: &'a str,
    /// The media by their `mid`.
    pub members: Vec<&'a str>,
}

impl Direction {
    /// The name of the attribute.
    pub fn as_str(&self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    /// Whether its sender sends.
    pub fn sends(&self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether its sender receives.
    pub fn receives(&self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same flow as the other side sees it.
    pub fn reversed(&self) -> Direction {
        Direction::of(self.receives(), self.sends())
    }

    /// What is left of two wishes, both seen from the same side: how an answer narrows an offer (RFC 3264 §6.1).
    pub fn and(&self, other: Direction) -> Direction {
        Direction::of(
            self.sends() && other.sends(),
            self.receives() && other.receives(),
        )
    }

    fn of(sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    pub(super) fn parse(name: &str) -> Option<Direction> {
        [
            Direction::SendRecv,
            Direction::SendOnly,
            Direction::RecvOnly,
            Direction::Inactive,
        ]
        .into_iter()
        .find(|direction| direction.as_str() == name)
    }
}

impl<'a> RtpMap<'a> {
    /// A mapping without channels.
    pub fn new(payload_type: u8, encoding: &'a str, clock_rate: u32) -> RtpMap<'a> {
        RtpMap {
            payload_type,
            encoding,
            clock_rate,
            channels: None,
        }
    }

    /// `<payload type> <encoding name>/<clock rate>[/<channels>]`
    pub fn parse(value: &'a str) -> Option<RtpMap<'a>> {
        let (payload_type, rest) = value.trim().split_once(' ')?;
        let mut parts = rest.trim().split('/');
        let encoding = parts.next().filter(|encoding| !encoding.is_empty())?;
        Some(RtpMap {
            payload_type: payload_type.parse().ok().filter(|number| *number < 128)?,
            encoding,
            clock_rate: parts.next()?.parse().ok()?,
            channels: match parts.next() {
                Some(channels) => Some(channels.parse().ok()?),
                None => None,
            },
        })
    }

    /// The payload types of RFC 3551 §6 that are in use.
    pub fn assigned(payload_type: u8) -> Option<RtpMap<'static>> {
        let (encoding, clock_rate) = match payload_type {
            0 => ("PCMU", 8000),
            3 => ("GSM", 8000),
            4 => ("G723", 8000),
            8 => ("PCMA", 8000),
            9 => ("G722", 8000),
            13 => ("CN", 8000),
            15 => ("G728", 8000),
            18 => ("G729", 8000),
            26 => ("JPEG", 90_000),
            31 => ("H261", 90_000),
            34 => ("H263", 90_000),
            _ => return None,
        };
        Some(RtpMap::new(payload_type, encoding, clock_rate))
    }
}

impl<'a> Fmtp<'a> {
    /// `<format> <parameters>`
    pub fn parse(value: &'a str) -> Option<Fmtp<'a>> {
        let (format, params) = value.trim().split_once(' ')?;
        Some(Fmtp {
            format,
            params: params.trim(),
        })
    }

    /// The parameter of that name, in any case, of the usual `name=value;name=value`.
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.split(';').find_map(|piece| {
            let (found, value) = piece.split_once('=')?;
            found
                .trim()
                .eq_ignore_ascii_case(name)
                .then_some(value.trim())
        })
    }
}

impl<'a> RtcpAddress<'a> {
    /// `<port> [<nettype> <addrtype> <address>]`
    pub fn parse(value: &'a str) -> Option<RtcpAddress<'a>> {
        let mut words = value.split_ascii_whitespace();
        let port = words.next()?.parse().ok()?;
        Some(RtcpAddress {
            port,
            address: words.nth(2),
        })
    }

    /// The IP address; `None` for a name, or none.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address?.parse().ok()
    }
}

impl<'a> Group<'a> {
    /// `<semantics> *( SP <mid> )`
    pub fn parse(value: &'a str) -> Option<Group<'a>> {
        let mut words = value.split_ascii_whitespace();
        Some(Group {
            semantics: words.next()?,
            members: words.collect(),
        })
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RtpMap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}/{}",
            self.payload_type, self.encoding, self.clock_rate
        )?;
        match self.channels {
            Some(channels) => write!(f, "/{channels}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Fmtp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.format, self.params)
    }
}

impl fmt::Display for RtcpAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.port)?;
        match self.address {
            Some(address) if address.contains(':') => write!(f, " IN IP6 {address}"),
            Some(address) => write!(f, " IN IP4 {address}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.semantics)?;
        for member in &self.members {
            write!(f, " {member}")?;
        }
        Ok(())
    }
}
