//! ICE candidates (RFC 8839 §5.1).

use std::fmt;
use std::net::IpAddr;

/// An address at which a medium may be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate<'a> {
    /// Groups candidates of one kind, base and server.
    pub foundation: &'a str,
    /// 1 for RTP, 2 for RTCP.
    pub component: u16,
    /// The transport, compared without case: `UDP`, `TCP`.
    pub transport: &'a str,
    /// The higher, the better.
    pub priority: u32,
    /// The address, or a name such as the `.local` of mDNS.
    pub address: &'a str,
    /// The port.
    pub port: u16,
    /// How it was found.
    pub kind: CandidateKind<'a>,
    /// Where it was found from (`raddr`, `rport`).
    pub related: Option<(&'a str, u16)>,
    /// Extensions behind it, as written.
    pub extensions: &'a str,
}

/// How a candidate was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CandidateKind<'a> {
    /// `host`: an address of the machine.
    Host,
    /// `srflx`: as a STUN server saw it.
    ServerReflexive,
    /// `prflx`: as the peer saw it.
    PeerReflexive,
    /// `relay`: at a TURN server.
    Relayed,
    /// Any other.
    Other(&'a str),
}

impl<'a> Candidate<'a> {
    /// The value of a `candidate` attribute.
    pub fn parse(value: &'a str) -> Option<Candidate<'a>> {
        let (foundation, rest) = word(value)?;
        let (component, rest) = word(rest)?;
        let (transport, rest) = word(rest)?;
        let (priority, rest) = word(rest)?;
        let (address, rest) = word(rest)?;
        let (port, rest) = word(rest)?;
        let (typ, rest) = word(rest)?;
        let (kind, rest) = word(rest)?;
        if typ != "typ" {
            return None;
        }
        let (related, extensions) = related(rest)?;
        Some(Candidate {
            foundation,
            component: component.parse().ok()?,
            transport,
            priority: priority.parse().ok()?,
            address,
            port: port.parse().ok()?,
            kind: CandidateKind::parse(kind),
            related,
            extensions: extensions.trim(),
        })
    }

    /// The IP address; `None` for a name.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }
}

impl<'a> CandidateKind<'a> {
    /// The word.
    pub fn as_str(&self) -> &'a str {
        match self {
            CandidateKind::Host => "host",
            CandidateKind::ServerReflexive => "srflx",
            CandidateKind::PeerReflexive => "prflx",
            CandidateKind::Relayed => "relay",
            CandidateKind::Other(word) => word,
        }
    }

    fn parse(word: &'a str) -> CandidateKind<'a> {
        match word {
            "host" => CandidateKind::Host,
            "srflx" => CandidateKind::ServerReflexive,
            "prflx" => CandidateKind::PeerReflexive,
            "relay" => CandidateKind::Relayed,
            other => CandidateKind::Other(other),
        }
    }
}

impl fmt::Display for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {} typ {}",
            self.foundation,
            self.component,
            self.transport,
            self.priority,
            self.address,
            self.port,
            self.kind.as_str()
        )?;
        if let Some((address, port)) = self.related {
            write!(f, " raddr {address} rport {port}")?;
        }
        if !self.extensions.is_empty() {
            write!(f, " {}", self.extensions)?;
        }
        Ok(())
    }
}

/// `[ raddr <address> rport <port> ]`, and what follows.
fn related(rest: &str) -> Option<(Option<(&str, u16)>, &str)> {
    let Some(("raddr", after)) = word(rest) else {
        return Some((None, rest));
    };
    let (address, after) = word(after)?;
    let Some(("rport", after)) = word(after) else {
        return None;
    };
    let (port, after) = word(after)?;
    Some((Some((address, port.parse().ok()?)), after))
}

fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (!word.is_empty()).then_some((word, rest))
}
