//! Users that register at a steady rate, half of them over UDP and half over TCP, and what became of it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::{connect, source};

/// How long a client waits for an answer (RFC 3261 §17.1.2.2, Timer F).
const TIMER_F: Duration = Duration::from_secs(32);

#[derive(Default)]
pub struct Load {
    pub udp: Tally,
    pub tcp: Tally,
    ends: AtomicBool,
    /// How much later than it was due the latest request was, in microseconds: the load's own fault.
    latest: AtomicU64,
}

impl Load {
    /// Registers users at a rate, so many a second, until it is told to end, and waits for the last answers. It has a thread of
    /// its own: what others of this process do does not delay it.
    pub fn start(self: &Arc<Load>, servers: (SocketAddr, SocketAddr), rate: u32) -> JoinHandle<()> {
        let load = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        thread::spawn(move || runtime.block_on(load.run(servers, rate)))
    }

    async fn run(self: Arc<Load>, (udp, tcp): (SocketAddr, SocketAddr), rate: u32) {
        let connections = Arc::new(Connections::default());
        let begin = Instant::now();
        let mut users = JoinSet::new();
        for number in 0.. {
            if self.ends.load(Ordering::Relaxed) {
                break;
            }
            let due = Duration::from_secs_f64(f64::from(number) / f64::from(rate));
            let wait = due.saturating_sub(begin.elapsed());
            if !wait.is_zero() {
                sleep(wait).await;
            } else if number % 50 == 0 {
                // All that are overdue are sent, and yet others get their turn.
                yield_now().await;
            }
            let (load, connections) = (self.clone(), connections.clone());
            users.spawn(async move {
                let late = begin.elapsed().saturating_sub(due).as_micros() as u64;
                load.latest.fetch_max(late, Ordering::Relaxed);
                match number % 2 {
                    0 => load.udp.count(over_udp(number, udp)).await,
                    _ => load.tcp.count(connections.register(number, tcp)).await,
                }
            });
            while users.try_join_next().is_some() {}
        }
        while users.join_next().await.is_some() {}
    }

    pub fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    pub fn latest(&self) -> Duration {
        Duration::from_micros(self.latest.load(Ordering::Relaxed))
    }
}

/// How requests ended.
#[derive(Default)]
pub struct Tally(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    /// How long each of those that succeeded took.
    succeeded: Vec<Duration>,
    /// With another status than 200.
    refused: usize,
    /// With the connection.
    broken: usize,
    /// Without anything, until Timer F fired.
    silent: usize,
}

impl Tally {
    async fn count(&self, exchange: impl Future<Output = io::Result<u16>>) {
        let begin = Instant::now();
        let end = timeout(TIMER_F, exchange).await;
        let mut ends = self.0.lock().unwrap();
        match end {
            Ok(Ok(200)) => ends.succeeded.push(begin.elapsed()),
            Ok(Ok(_)) => ends.refused += 1,
            Ok(Err(_)) => ends.broken += 1,
            Err(_) => ends.silent += 1,
        }
    }

    pub fn sent(&self) -> usize {
        let ends = self.0.lock().unwrap();
        ends.succeeded.len() + ends.refused + ends.broken + ends.silent
    }

    pub fn succeeded(&self) -> usize {
        self.0.lock().unwrap().succeeded.len()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sent = self.sent();
        let mut ends = self.0.lock().unwrap();
        ends.succeeded.sort();
        let succeeded = ends.succeeded.len();
        // Within which so many of a thousand came.
        let per_mille = |part: usize| {
            let at = succeeded.saturating_sub(1) * part / 1_000;
            let time = ends.succeeded.get(at).copied().unwrap_or_default();
            time.as_secs_f64() * 1e3
        };
        write!(
            f,
            "{succeeded} of {sent} succeeded ({:.3} %), {} were refused, {} lost with their connection, {} not answered; \
             median {:.1} ms, 99 % {:.1} ms, slowest {:.1} ms",
            succeeded as f64 * 100.0 / sent as f64,
            ends.refused,
            ends.broken,
            ends.silent,
            per_mille(500),
            per_mille(990),
            per_mille(1_000)
        )
    }
}

pub fn register(number: u32, transport: &str, local: SocketAddr) -> String {
    format!(
        "REGISTER sip:localhost SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {local};branch=z9hG4bKload{number}{transport};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:u{number}@localhost>;tag=t{number}\r\nTo: <sip:u{number}@localhost>\r\n\
         Call-ID: load-{number}-{transport}\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:u{number}@{local}>\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The status, and the number of the user that it is for.
fn status_and_number(answer: &str) -> Option<(u16, u32)> {
    let status = answer.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
    let (_, call_id) = answer.split_once("\r\nCall-ID: load-")?;
    let (number, _) = call_id.split_once('-')?;
    Some((status, number.parse().ok()?))
}

/// Registers a user from a port of its own, with the retransmissions of RFC 3261 §17.1.2.
pub async fn over_udp(number: u32, server: SocketAddr) -> io::Result<u16> {
    let socket = UdpSocket::bind((source(0), 0)).await?;
    socket.connect(server).await?;
    let request = register(number, "UDP", socket.local_addr()?);
    let mut buffer = [0; 2048];
    let mut interval = Duration::from_millis(500);
    loop {
        socket.send(request.as_bytes()).await?;
        if let Ok(length) = timeout(interval, socket.recv(&mut buffer)).await {
            let answer = String::from_utf8_lossy(&buffer[..length?]);
            let (status, _) = status_and_number(&answer).ok_or(io::ErrorKind::InvalidData)?;
            return Ok(status);
        }
        interval = (interval * 2).min(Duration::from_secs(4));
    }
}

/// Ten connections, which users share as behind a proxy: nobody waits for the answer to another.
#[derive(Default)]
struct Connections([tokio::sync::Mutex<Option<Arc<Connection>>>; 10]);

struct Connection {
    local: SocketAddr,
    requests: mpsc::Sender<String>,
    waiting: Arc<Waiting>,
}

/// Those who wait for an answer, by their number. `None` once there will be none.
type Waiting = Mutex<Option<HashMap<u32, oneshot::Sender<u16>>>>;

impl Connections {
    async fn register(&self, number: u32, server: SocketAddr) -> io::Result<u16> {
        let connection = self.connection(number, server).await?;
        let (tell, told) = oneshot::channel();
        let is_open = |waiting: &mut HashMap<_, _>| waiting.insert(number, tell);
        connection.waiting.lock().unwrap().as_mut().map(is_open);
        let request = register(number, "TCP", connection.local);
        let ended = || io::Error::from(io::ErrorKind::ConnectionAborted);
        let sent = connection.requests.send(request).await;
        sent.map_err(|_| ended())?;
        told.await.map_err(|_| ended())
    }

    async fn connection(&self, number: u32, server: SocketAddr) -> io::Result<Arc<Connection>> {
        let mut place = self.0[number as usize / 2 % self.0.len()].lock().await;
        let is_open = |connection: &&Arc<Connection>| connection.waiting.lock().unwrap().is_some();
        if let Some(connection) = place.as_ref().filter(is_open) {
            return Ok(connection.clone());
        }
        let stream = connect(source(0), server).await?;
        stream.set_nodelay(true)?;
        let (requests, to_send) = mpsc::channel(1_000);
        let connection = Arc::new(Connection {
            local: stream.local_addr()?,
            requests,
            waiting: Arc::new(Mutex::new(Some(HashMap::new()))),
        });
        let (reader, writer) = stream.into_split();
        tokio::spawn(write(writer, to_send));
        tokio::spawn(read(reader, connection.waiting.clone()));
        *place = Some(connection.clone());
        Ok(connection)
    }
}

/// Writes each request whole, whoever has given up on it.
async fn write(mut writer: OwnedWriteHalf, mut requests: mpsc::Receiver<String>) {
    while let Some(request) = requests.recv().await {
        if writer.write_all(request.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(mut reader: OwnedReadHalf, waiting: Arc<Waiting>) {
    let mut read = Vec::new();
    while reader
        .read_buf(&mut read)
        .await
        .is_ok_and(|length| length > 0)
    {
        // No answer has a body.
        while let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let answer: Vec<u8> = read.drain(..end + 4).collect();
            let answer = String::from_utf8_lossy(&answer);
            let Some((status, number)) = status_and_number(&answer) else {
                panic!("no answer: {answer}");
            };
            let mut waiting = waiting.lock().unwrap();
            let user = waiting.as_mut().and_then(|waiting| waiting.remove(&number));
            // Nobody to tell once Timer F has fired.
            let _ = user.map(|user| user.send(status));
        }
    }
    waiting.lock().unwrap().take();
}
