//! Via (RFC 3261 §20.42, RFC 3581).

use std::net::IpAddr;

use nom::Parser;
use nom::sequence::preceded;

use super::Headers;
use super::address::Refused;
use crate::classes::{decimal, is_lws, trim};
use crate::error::HeaderError;
use crate::grammar::{self, lws, separator, skip_lws, token};
use crate::header_name::{HeaderName, Known};
use crate::params::Params;
use crate::scan;
use crate::uri::{Host, HostPort, host_port};

/// What every branch made by RFC 3261 begins with (§8.1.1.7).
pub(crate) const MAGIC_COOKIE: &str = "z9hG4bK";

/// One Via value: the transport and place that a response has to take.
#[derive(Clone, Copy)]
pub struct Via<'a> {
    pub(super) raw: &'a [u8],
    pub(super) version: &'a [u8],
    pub(super) transport: &'a [u8],
    pub(super) host: &'a [u8],
    pub(super) port: Option<u16>,
    pub(super) params: Params<'a>,
    pub(super) branch: Option<&'a [u8]>,
}

impl<'a> Via<'a> {
    /// The protocol version, `2.0`.
    pub fn version(&self) -> &'a str {
        text(self.version)
    }

    /// The transport as written: `UDP`, `TCP`, `TLS`, `WS` and so on.
    pub fn transport(&self) -> &'a str {
        text(self.transport)
    }

    /// The host of sent-by.
    pub fn host(&self) -> Host<'a> {
        Host::read(self.host_str())
    }

    /// The host of sent-by as written, brackets included.
    pub fn host_str(&self) -> &'a str {
        text(self.host)
    }

    /// The port of sent-by.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The branch: with the cookie `z9hG4bK` in front it names the transaction (RFC 3261 §17.1.3).
    pub fn branch(&self) -> Option<&'a str> {
        scan::text(self.branch?)
    }

    /// Whether the branch was made by the rules of RFC 3261 and so is unique. The bare cookie is not (RFC 4475 §3.2.1).
    pub fn has_unique_branch(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.len() > MAGIC_COOKIE.len()
                && branch
                    .get(..MAGIC_COOKIE.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE))
        })
    }

    /// The address from which the request came (§18.2.1). IPv6 is read with and without brackets (RFC 5118 §4.5).
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.params.token("received")?;
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        Host::read(text).ip()
    }

    /// RFC 3581: `None` without `rport`, `Some(None)` where it asks for the port, `Some(Some(port))` once filled in.
    pub fn rport(&self) -> Option<Option<u16>> {
        let param = self.params.find("rport")?;
        Some(
            param
                .raw_value()
                .and_then(decimal)
                .and_then(|port| u16::try_from(port).ok()),
        )
    }

    /// The address to which multicast responses go (§18.2.2).
    pub fn maddr(&self) -> Option<&'a str> {
        self.params.token("maddr")
    }

    /// The time to live of multicast packets.
    pub fn ttl(&self) -> Option<u8> {
        decimal(self.params.token("ttl")?.as_bytes()).and_then(|ttl| u8::try_from(ttl).ok())
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.params
    }

    /// The value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// Reads one value at the start of `input`; gives the rest, which is empty or begins with a comma.
    pub(crate) fn read(input: &'a [u8]) -> Result<(&'a [u8], Via<'a>), Refused<'a>> {
        // How everybody writes it, and then with white space around the slashes.
        let plain = match input {
            [b'S', b'I', b'P', b'/', b'2', b'.', b'0', b'/', rest @ ..] => token(rest).ok(),
            _ => None,
        };
        let (rest, version, transport) = match plain {
            Some((rest, transport)) => (rest, input.get(4..7).unwrap_or_default(), transport),
            None => sent_protocol(input)?,
        };
        let host = skip_lws(rest);
        if host.len() == rest.len() {
            return Err(("no space behind the transport", rest));
        }
        let (rest, host, port) = sent_by(host)?;
        let mut branch = None;
        let see = |name: &[u8], value: Option<&'a [u8]>| {
            if branch.is_none() && name.eq_ignore_ascii_case(b"branch") {
                branch = Some(value);
            }
        };
        let (after, params) =
            grammar::params_seen(rest, see).map_err(|_| ("malformed parameters", rest))?;
        if !matches!(after.first(), None | Some(b',')) {
            return Err(("something behind the parameters", after));
        }
        let length = input.len() - after.len();
        let via = Via {
            raw: trim(input.get(..length).unwrap_or_default()),
            version,
            transport,
            host,
            port,
            params: Params::new(params),
            branch: branch.flatten(),
        };
        Ok((after, via))
    }
}

impl Via<'_> {
    /// Whether both are the same bytes of the same buffer.
    pub(super) fn is_same(&self, other: &Via<'_>) -> bool {
        let places = |via: &Via<'_>| {
            let branch = via.branch.map(<[u8]>::as_ptr_range);
            let parts = [
                via.raw,
                via.version,
                via.transport,
                via.host,
                via.params.as_bytes(),
            ];
            (parts.map(<[u8]>::as_ptr_range), branch, via.port)
        };
        places(self) == places(other)
    }
}

const NO_PROTOCOL: &str = "no protocol, version and transport";

/// What follows, the version and the transport.
type SentProtocol<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// `protocol-name SLASH protocol-version SLASH transport`, with white space wherever it is allowed.
fn sent_protocol(input: &[u8]) -> Result<SentProtocol<'_>, Refused<'_>> {
    let sent_protocol = (
        preceded(lws, token),
        preceded(separator('/'), token),
        preceded(separator('/'), token),
    )
        .parse(input);
    let Ok((rest, (protocol, version, transport))) = sent_protocol else {
        return Err((NO_PROTOCOL, input));
    };
    if !protocol.eq_ignore_ascii_case(b"SIP") {
        return Err(("a protocol that is not SIP", protocol));
    }
    Ok((rest, version, transport))
}

/// The text of bytes that are ASCII by their grammar.
fn text(bytes: &[u8]) -> &str {
    scan::text(bytes).unwrap_or("")
}

/// What follows, the host and the port.
type SentBy<'a> = (&'a [u8], &'a [u8], Option<u16>);

/// `host [ COLON port ]`, with white space around the colon.
fn sent_by(input: &[u8]) -> Result<SentBy<'_>, Refused<'_>> {
    let place = |at: usize| input.get(at..).unwrap_or_default();
    let HostPort {
        host_len,
        port,
        len,
    } = match host_port(input) {
        Ok(found) => found,
        // The colon may have space behind it; then the port is read below.
        Err(error)
            if error.reason() == "invalid port"
                && place(error.offset())
                    .first()
                    .is_some_and(|byte| is_lws(*byte)) =>
        {
            HostPort {
                host_len: error.offset() - 1,
                port: None,
                len: error.offset() - 1,
            }
        }
        Err(error) => return Err((error.reason(), place(error.offset()))),
    };
    let host = input.get(..host_len).unwrap_or_default();
    // Mostly it is the first parameter that follows.
    if port.is_some() || matches!(place(len).first(), None | Some(b';')) {
        return Ok((place(len), host, port));
    }
    let Ok((rest, _)) = separator(':')(place(len)) else {
        return Ok((place(len), host, None));
    };
    let digits = scan::count_while(rest, u8::is_ascii_digit);
    let number =
        decimal(rest.get(..digits).unwrap_or_default()).and_then(|port| u16::try_from(port).ok());
    match number {
        Some(port) => Ok((rest.get(digits..).unwrap_or_default(), host, Some(port))),
        None => Err(("invalid port", rest)),
    }
}

impl std::fmt::Debug for Via<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.raw))
    }
}

impl<'a> Headers<'a> {
    /// The top Via: who sent the message to us, or whom we have to answer.
    #[inline(always)]
    pub fn via(&self) -> Result<Via<'a>, HeaderError> {
        match self.facts().via() {
            Some(packed) => Ok(packed.open(self.learned_value(Known::Via as u8))),
            None => self.top_via(),
        }
    }

    fn top_via(&self) -> Result<Via<'a>, HeaderError> {
        match self.vias().next() {
            Some(via) => via,
            None => Err(HeaderError::missing(HeaderName::Via, self.end)),
        }
    }

    /// All Via values from the top. The first malformed one ends the walk through its line.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'a>, HeaderError>> + use<'a> {
        let headers = *self;
        let mut lines = self.filed(Known::Via as u8);
        let mut rest: &'a [u8] = &[];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                rest = lines.next()?.value.of(headers.bytes);
            }
            let (after, result) = match Via::read(rest) {
                Ok((after, via)) => (after, Ok(via)),
                Err((reason, at)) => (&[][..], Err(headers.error(HeaderName::Via, reason, at))),
            };
            rest = trim(after.get(1..).unwrap_or_default());
            Some(result)
        })
    }
}
