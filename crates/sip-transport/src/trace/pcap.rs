//! Messages in a capture file, as Wireshark, sngrep and tcpdump read it.

use super::file::Growing;
use super::packet::{ACK, LARGEST_TCP, LARGEST_UDP, PSH, SYN, Segment, Tcp, frame};
use super::{TraceSink, ends};
use crate::{Direction, FlowId, Observed, Transport};
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::{self, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Writes each message into a file in the classic pcap format, within the Ethernet, IP, and UDP or TCP headers that it had or
/// might have had, so that programs for captured packets show it.
///
/// TLS is shown as TCP on the same ports, in clear. WebSocket is shown as UDP, as a message is a frame of its own there, too; one
/// that is too large for a datagram as TCP. A connection begins with the three packets that open it, from whoever sent the
/// first message, and does not end. A message of more than 60,000 bytes over TCP is in several packets.
#[derive(Debug)]
pub struct PcapTrace {
    file: Growing,
    /// At most [`CONVERSATIONS`], of which the one that began first is forgotten.
    conversations: BTreeMap<FlowId, Conversation>,
    random: RandomState,
}

/// Where the two sides of a connection are in their counting.
#[derive(Debug, Clone, Copy)]
struct Conversation {
    sent: u32,
    received: u32,
}

impl PcapTrace {
    /// Adds to the end of a capture file of the same kind, or makes one. A last record that is not whole is removed; any other
    /// file is an error, and stays as it is. A pipe is written to from its beginning.
    ///
    /// [`TraceSink::reopen`] opens it again by its name, where connections begin anew.
    pub fn append(path: &Path) -> io::Result<PcapTrace> {
        Ok(PcapTrace {
            file: open(path)?,
            conversations: BTreeMap::new(),
            random: RandomState::new(),
        })
    }

    fn record(&mut self, message: &Observed<'_>, frame: &[u8]) -> io::Result<()> {
        let since = message.now.wall.duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default();
        // The format counts in 32 bits, which last until 2106.
        let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let mut record = Vec::with_capacity(RECORD_HEADER + frame.len());
        for field in [seconds, since.subsec_micros(), length, length] {
            record.extend_from_slice(&field.to_le_bytes());
        }
        record.extend_from_slice(frame);
        self.file.add(&record)
    }

    fn stream(&mut self, message: &Observed<'_>) -> io::Result<()> {
        let mut at = match self.conversations.get(&message.flow.id) {
            Some(conversation) => *conversation,
            None => self.begin(message)?,
        };
        let (source, destination) = ends(message);
        for payload in message.bytes.chunks(LARGEST_TCP) {
            let length = u32::try_from(payload.len()).unwrap_or_default();
            let (ours, theirs) = match message.direction {
                Direction::In => (&mut at.received, &at.sent),
                Direction::Out => (&mut at.sent, &at.received),
            };
            let segment = Tcp {
                flags: PSH | ACK,
                sequence: *ours,
                acknowledged: *theirs,
                payload,
            };
            *ours = ours.wrapping_add(length);
            self.record(message, &frame(source, destination, Segment::Tcp(segment)))?;
        }
        self.conversations.insert(message.flow.id, at);
        Ok(())
    }

    /// Writes what opens a connection, which nobody saw: it tells readers that this one is new, though its ports may have been
    /// another's before.
    fn begin(&mut self, message: &Observed<'_>) -> io::Result<Conversation> {
        let first = |direction| {
            let hash = self.random.hash_one((message.flow.id, direction));
            // Half of the hash.
            (hash >> 32) as u32
        };
        let at = Conversation {
            sent: first(Direction::Out),
            received: first(Direction::In),
        };
        let (client, server) = ends(message);
        let (of_client, of_server) = match message.direction {
            Direction::In => (at.received, at.sent),
            Direction::Out => (at.sent, at.received),
        };
        let opening = [
            (client, server, SYN, of_client, 0),
            (
                server,
                client,
                SYN | ACK,
                of_server,
                of_client.wrapping_add(1),
            ),
            (
                client,
                server,
                ACK,
                of_client.wrapping_add(1),
                of_server.wrapping_add(1),
            ),
        ];
        for (source, destination, flags, sequence, acknowledged) in opening {
            let segment = Tcp {
                flags,
                sequence,
                acknowledged,
                payload: &[],
            };
            self.record(message, &frame(source, destination, Segment::Tcp(segment)))?;
        }
        if self.conversations.len() >= CONVERSATIONS {
            self.conversations.pop_first();
        }
        Ok(Conversation {
            sent: at.sent.wrapping_add(1),
            received: at.received.wrapping_add(1),
        })
    }

    fn datagram(&mut self, message: &Observed<'_>) -> io::Result<()> {
        let (source, destination): (SocketAddr, SocketAddr) = ends(message);
        let frame = frame(source, destination, Segment::Udp(message.bytes));
        self.record(message, &frame)
    }
}

impl TraceSink for PcapTrace {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn write(&mut self, message: &Observed<'_>) -> io::Result<()> {
        let is_stream = matches!(message.flow.transport, Transport::Tcp | Transport::Tls);
        match is_stream || message.bytes.len() > LARGEST_UDP {
            true => self.stream(message),
            false => self.datagram(message),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = open(self.file.path())?;
        self.conversations.clear();
        Ok(())
    }
}

/// Opens a file at the end of its last whole record; one that is new gets the header.
fn open(path: &Path) -> io::Result<Growing> {
    let mut file = Growing::open(path)?;
    if file.is_empty() {
        file.add(&header())?;
        file.flush()?;
        return Ok(file);
    }
    let end = last_record(file.file())?;
    file.cut(end)?;
    Ok(file)
}

/// Returns where the last whole record ends.
fn last_record(file: &mut std::fs::File) -> io::Result<u64> {
    io::Seek::rewind(file)?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let mut found = [0; FILE_HEADER];
    let is_ours = reader.read_exact(&mut found).is_ok() && found == header();
    if !is_ours {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "there is a file that is no capture of this kind",
        ));
    }
    let mut end = FILE_HEADER as u64;
    let mut record = [0; RECORD_HEADER];
    while reader.read_exact(&mut record).is_ok() {
        let [.., a, b, c, d, _, _, _, _] = record;
        let captured = u32::from_le_bytes([a, b, c, d]);
        let next = end + RECORD_HEADER as u64 + u64::from(captured);
        if next > length || captured > LARGEST_RECORD {
            break;
        }
        reader.seek_relative(i64::from(captured))?;
        end = next;
    }
    Ok(end)
}

/// Version 2.4, times in microseconds of UTC, Ethernet.
fn header() -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[0..4].copy_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
    header[4..6].copy_from_slice(&2_u16.to_le_bytes());
    header[6..8].copy_from_slice(&4_u16.to_le_bytes());
    header[16..20].copy_from_slice(&LARGEST_RECORD.to_le_bytes());
    header[20..24].copy_from_slice(&1_u32.to_le_bytes());
    header
}

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// What readers are told to have room for, as tcpdump tells them. Ours are never so large.
const LARGEST_RECORD: u32 = 262_144;

/// Connections whose counting is remembered: more than a server has at once by default. One that is forgotten and goes on seems
/// to begin anew.
const CONVERSATIONS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_record_that_was_not_finished_is_removed_and_another_file_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.pcap");
        drop(PcapTrace::append(&path).unwrap());
        let mut whole = fs::read(&path).unwrap();
        assert_eq!(whole, header());
        whole.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 7, 7]);
        for torn in [0, 5, 16, 17] {
            let mut bytes = whole.clone();
            bytes.extend_from_within(24..24 + torn);
            fs::write(&path, bytes).unwrap();
            drop(PcapTrace::append(&path).unwrap());
            assert_eq!(fs::read(&path).unwrap(), whole, "{torn}");
        }
        fs::write(&path, "somebody's letter").unwrap();
        let error = PcapTrace::append(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read(&path).unwrap(), b"somebody's letter");
    }
}
