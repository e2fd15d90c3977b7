//! The tracer: what it writes, and what happens when that is slow or fails.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bytes::Bytes;
use sipora_transport::trace::{HepTrace, PcapTrace, TextTrace, TraceSink, Tracer};
use sipora_transport::{
    Destination, Flow, InboundReceiver, Observed, Payload, TokioNetwork, TransportConfig,
    Transports, UdpListener,
};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// Long enough for a disk of a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Transports on loopback that are traced, and a peer that takes datagrams and says nothing.
struct Traced {
    transports: Transports,
    inbound: InboundReceiver,
    _socket: UdpListener,
    peer: UdpSocket,
    flow: Flow,
    tracer: Arc<Tracer>,
}

impl Traced {
    async fn by(sinks: Vec<Box<dyn TraceSink>>) -> Traced {
        let tracer = Arc::new(Tracer::new(sinks));
        let (transports, inbound) = Transports::with_observer(
            Arc::new(TokioNetwork::new()),
            TransportConfig::default(),
            tracer.clone(),
        );
        let mut sockets = transports
            .bind_udp("127.0.0.1:0".parse().unwrap(), 1)
            .unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let flow = Destination::udp(peer.local_addr().unwrap());
        let flow = transports.open(&flow).await.unwrap();
        Traced {
            transports,
            inbound,
            _socket: sockets.remove(0),
            peer,
            flow,
            tracer,
        }
    }

    fn send(&self, text: impl Into<Bytes>) {
        self.transports.try_send(&self.flow, text.into()).unwrap();
    }

    fn flush(&self) {
        assert!(self.tracer.flush(PATIENCE));
    }
}

/// Waits for a word before each message.
struct Stuck(Receiver<()>);

impl TraceSink for Stuck {
    fn name(&self) -> &str {
        "stuck"
    }

    fn write(&mut self, _: &Observed<'_>) -> io::Result<()> {
        let _ = self.0.recv();
        Ok(())
    }
}

/// Keeps messages, and fails while it is told to.
#[derive(Clone, Default)]
struct Shaky(Arc<AtomicBool>, Arc<Mutex<Vec<Vec<u8>>>>);

impl TraceSink for Shaky {
    fn name(&self) -> &str {
        "shaky"
    }

    fn write(&mut self, message: &Observed<'_>) -> io::Result<()> {
        if self.0.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.1.lock().unwrap().push(message.bytes.to_vec());
        Ok(())
    }
}

#[tokio::test]
async fn a_trace_that_is_stuck_holds_nobody_up_and_keeps_no_more_than_its_bound() {
    let (release, wait) = channel();
    let traced = Traced::by(vec![Box::new(Stuck(wait))]).await;
    let message = Bytes::from(vec![b'x'; 60_000]);
    for _ in 0..400 {
        traced.send(message.clone());
    }
    let metrics = traced.tracer.metrics();
    assert_eq!(metrics.messages + metrics.dropped, 400);
    assert!(metrics.dropped > 100, "{metrics:?}");
    assert!(metrics.waiting_bytes <= 16 * 1024 * 1024, "{metrics:?}");
    assert!(!traced.tracer.flush(Duration::from_millis(1)));

    drop(release);
    traced.flush();
    assert_eq!(traced.tracer.metrics().waiting_bytes, 0);
    for _ in 0..20_000 {
        traced.send("x");
    }
    let metrics = traced.tracer.metrics();
    assert_eq!(metrics.messages + metrics.dropped, 20_400);
}

#[tokio::test]
async fn a_trace_that_fails_is_counted_and_the_other_and_the_messages_go_on() {
    let (shaky, steady) = (Shaky::default(), Shaky::default());
    let traced = Traced::by(vec![Box::new(shaky.clone()), Box::new(steady.clone())]).await;
    for (number, fails) in [(0_u8, false), (1, true), (2, false)] {
        shaky.0.store(fails, Ordering::SeqCst);
        traced.send(vec![b'a' + number]);
        traced.flush();
    }
    assert_eq!(*shaky.1.lock().unwrap(), [b"a", b"c"]);
    assert_eq!(*steady.1.lock().unwrap(), [b"a", b"b", b"c"]);
    assert_eq!(traced.tracer.metrics().failures, 1);
    let mut buffer = [0; 10];
    for _ in 0..3 {
        traced.peer.recv(&mut buffer).await.unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_device_without_room_fails_and_nobody_waits_for_it() {
    let text = TextTrace::append(Path::new("/dev/full")).unwrap();
    let traced = Traced::by(vec![Box::new(text)]).await;
    traced.send("OPTIONS sip:a SIP/2.0\r\n\r\n");
    traced.flush();
    assert!(traced.tracer.metrics().failures > 0);
}

#[tokio::test]
async fn a_file_that_was_moved_away_keeps_what_it_has_and_a_new_one_gets_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let traced = Traced::by(vec![
        Box::new(TextTrace::append(&path("text")).unwrap()),
        Box::new(PcapTrace::append(&path("pcap")).unwrap()),
    ])
    .await;
    traced.send("one");
    for name in ["text", "pcap"] {
        std::fs::rename(path(name), path(&format!("{name}.old"))).unwrap();
    }
    assert!(traced.tracer.reopen());
    traced.send("two");
    traced.flush();
    let read = |name: &str| std::fs::read(path(name)).unwrap();
    let has = |name: &str, word: &str| read(name).windows(3).any(|found| found == word.as_bytes());
    for (file, word) in [
        ("text.old", "one"),
        ("text", "two"),
        ("pcap.old", "one"),
        ("pcap", "two"),
    ] {
        assert!(has(file, word), "{file}");
    }
    assert!(!has("text", "one") && !has("text.old", "two") && !has("pcap.old", "two"));
    assert_eq!(read("pcap")[..24], read("pcap.old")[..24]);

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path("text"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_message_larger_than_a_packet_is_in_several_that_follow_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pcap");
    let mut traced = Traced::by(vec![Box::new(PcapTrace::append(&path).unwrap())]).await;
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let destination = Destination::tcp(listener.local_addr().unwrap());
    let flow = traced.transports.open(&destination).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let sent: Vec<u8> = (0..150_001_u32).map(|byte| byte as u8).collect();
    traced
        .transports
        .try_send(&flow, sent.clone().into())
        .unwrap();
    let mut buffer = vec![0; sent.len()];
    stream.read_exact(&mut buffer).await.unwrap();
    let back = "SIP/2.0 200 OK\r\nContent-Length: 0\r\nNo colon\r\n\r\n";
    stream.write_all(back.as_bytes()).await.unwrap();
    let inbound = traced.inbound.recv().await.unwrap();
    assert!(
        matches!(inbound.payload, Payload::Malformed(_)),
        "{inbound:?}"
    );
    traced.flush();

    let ours = traced.transports.local_addr(&flow).unwrap().port();
    let mut next = std::collections::HashMap::new();
    let mut streams = std::collections::HashMap::<u16, Vec<u8>>::new();
    for frame in frames(&std::fs::read(&path).unwrap()) {
        assert_eq!(frame[12..14], [0x86, 0xdd], "IPv6");
        assert_eq!(
            usize::from(word(&frame, 18)),
            frame.len() - 54,
            "its length"
        );
        let tcp = &frame[54..];
        let (from, sequence) = (word(tcp, 0), long(tcp, 4));
        let is_syn = tcp[13] & 2 == 2;
        if !is_syn {
            assert_eq!(Some(&sequence), next.get(&from));
            assert_eq!(
                Some(&long(tcp, 8)),
                next.get(&word(tcp, 2)),
                "what has come"
            );
        }
        let advance = tcp.len() as u32 - 20 + u32::from(is_syn);
        next.insert(from, sequence.wrapping_add(advance));
        streams
            .entry(from)
            .or_default()
            .extend_from_slice(&tcp[20..]);
    }
    assert_eq!(streams[&ours], sent);
    assert_eq!(streams[&destination.address.port()], back.as_bytes());
}

#[tokio::test]
async fn a_collector_gets_addresses_time_and_call_id_of_each_message() {
    let collector = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let hep = HepTrace::to(collector.local_addr().unwrap()).unwrap();
    let traced = Traced::by(vec![Box::new(hep.capture_id(2001).password("secret"))]).await;
    let message = "OPTIONS sip:a SIP/2.0\r\nCall-ID: x@y\r\n\r\n";
    traced.send(message);
    let mut packet = vec![0; 65_535];
    let length = collector.recv(&mut packet).await.unwrap();
    let packet = &packet[..length];
    assert_eq!(&packet[..4], b"HEP3");
    assert_eq!(usize::from(word(packet, 4)), length);
    let mut chunks = std::collections::BTreeMap::new();
    let mut rest = &packet[6..];
    while !rest.is_empty() {
        assert_eq!(word(rest, 0), 0, "the vendor");
        let (chunk, next) = rest.split_at(usize::from(word(rest, 4)));
        assert!(chunks.insert(word(chunk, 2), &chunk[6..]).is_none());
        rest = next;
    }
    let seconds = long(chunks.remove(&9).unwrap(), 0);
    assert!(seconds > 1_700_000_000);
    assert!(long(chunks.remove(&10).unwrap(), 0) < 1_000_000);
    let ours = traced.transports.local_addr(&traced.flow).unwrap().port();
    let expected: [(u16, &[u8]); 11] = [
        (1, &[2]),
        (2, &[17]),
        (3, &[127, 0, 0, 1]),
        (4, &[127, 0, 0, 1]),
        (7, &ours.to_be_bytes()),
        (8, &traced.flow.remote.port().to_be_bytes()),
        (11, &[1]),
        (12, &2001_u32.to_be_bytes()),
        (14, b"secret"),
        (15, message.as_bytes()),
        (17, b"x@y"),
    ];
    assert_eq!(chunks.into_iter().collect::<Vec<_>>(), expected);

    // The largest there is comes cut to what a datagram holds.
    traced.send(vec![b'x'; 65_507]);
    let mut packet = vec![0; 65_535];
    assert_eq!(collector.recv(&mut packet).await.unwrap(), 65_507);
    assert_eq!(traced.tracer.metrics().failures, 0);
}

/// Reads the frames of a capture.
fn frames(capture: &[u8]) -> Vec<Vec<u8>> {
    let (mut frames, mut rest) = (Vec::new(), &capture[24..]);
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
