//! What went over the simulated network.

use bytes::Bytes;
use sipora_transport::Transport;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Holds one datagram, or one message over a connection, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Virtual time since the network began.
    pub at: Duration,
    /// UDP, or TCP for connections.
    pub transport: Transport,
    /// The sender.
    pub source: SocketAddr,
    /// The receiver.
    pub destination: SocketAddr,
    /// A datagram's bytes; over a connection one message, one keep-alive, or bytes that are neither.
    pub bytes: Bytes,
    /// What the network did with it.
    pub fate: Fate,
}

/// Tells what the network did with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives after this time.
    Delivered(Duration),
    /// It arrives twice, after these times.
    Duplicated(Duration, Duration),
    /// It is lost.
    Lost,
    /// Nobody listens there.
    Unreachable,
}

impl Packet {
    /// Returns the start line, or what there is of a first line.
    pub fn first_line(&self) -> String {
        let line = self
            .bytes
            .split(|byte| matches!(byte, b'\r' | b'\n'))
            .next()
            .unwrap_or_default();
        if line.is_empty() {
            return format!("({} bytes of keep-alive)", self.bytes.len());
        }
        String::from_utf8_lossy(line).into_owned()
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Packet {
            at,
            transport,
            source,
            destination,
            ..
        } = self;
        write!(
            f,
            "{:>10.3}s {transport} {source} > {destination} ",
            at.as_secs_f64()
        )?;
        match self.fate {
            Fate::Delivered(after) => write!(f, "+{}ms", after.as_millis())?,
            Fate::Duplicated(one, two) => {
                write!(f, "+{}ms +{}ms", one.as_millis(), two.as_millis())?
            }
            Fate::Lost => f.write_str("LOST")?,
            Fate::Unreachable => f.write_str("UNREACHABLE")?,
        }
        write!(f, " {}", self.first_line())
    }
}
