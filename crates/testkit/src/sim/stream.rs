//! Connections.

use super::SimNetwork;
use super::world::{HostId, World};
use crate::Fate;
use async_trait::async_trait;
use bytes::{Buf, Bytes};
use sipora_message::{Frame, Limits, StreamFramer};
use sipora_transport::{Stream, StreamListener, Transport};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// A connection: two ends, and the bytes under way to each.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: [SocketAddr; 2],
    /// `lanes[n]` leads to `ends[n]`.
    lanes: [Lane; 2],
    is_reset: bool,
    /// Ends that are still held.
    held: usize,
}

/// Bytes under way in one direction.
#[derive(Debug)]
struct Lane {
    /// In order, each with its time of arrival.
    segments: VecDeque<(Instant, Bytes)>,
    /// Bytes in them.
    under_way: usize,
    last_arrival: Option<Instant>,
    /// When the end of the stream arrives.
    end: Option<Instant>,
    /// Nobody will read any more.
    deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Divides what is written into the messages that are recorded.
    framer: StreamFramer,
}

impl Lane {
    fn new() -> Lane {
        Lane {
            segments: VecDeque::new(),
            under_way: 0,
            last_arrival: None,
            end: None,
            deaf: false,
            reader: None,
            writer: None,
            framer: StreamFramer::new(Limits::default()),
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    /// Returns the next arrival after the earlier ones.
    fn arrival(&mut self, at: Instant) -> Instant {
        let at = self.last_arrival.map_or(at, |last| last.max(at));
        self.last_arrival = Some(at);
        at
    }
}

impl Connection {
    fn new(ends: [SocketAddr; 2]) -> Connection {
        Connection {
            ends,
            lanes: [Lane::new(), Lane::new()],
            is_reset: false,
            held: 2,
        }
    }

    pub(super) fn reset(&mut self) {
        self.is_reset = true;
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        self.lanes.iter_mut().for_each(Lane::wake);
    }
}

/// A listener, as those who connect find it.
#[derive(Debug)]
pub(super) struct Accepting {
    channel: mpsc::Sender<SimStream>,
}

pub(super) fn listen(
    network: &SimNetwork,
    host: HostId,
    local: SocketAddr,
) -> io::Result<Box<dyn StreamListener>> {
    let mut world = network.world();
    let local = world.bindable(host, local, |world| &world.listeners)?;
    let (channel, accepted) = mpsc::channel(BACKLOG);
    world.listeners.insert((host, local), Accepting { channel });
    Ok(Box::new(SimListener {
        network: network.clone(),
        host,
        local,
        accepted,
    }))
}

pub(super) async fn connect(
    network: &SimNetwork,
    host: HostId,
    local: Option<IpAddr>,
    remote: SocketAddr,
) -> io::Result<Box<dyn Stream>> {
    let (local, conditions) = {
        let mut world = network.world();
        let ip = match local {
            Some(ip) => ip,
            None => world.source_for(host, remote.ip())?,
        };
        (
            SocketAddr::new(ip, world.ephemeral_port(host)),
            world.conditions(ip, remote.ip()),
        )
    };
    loop {
        let joined = network.world().joined.clone();
        let again = joined.notified();
        if !network.world().is_parted(local.ip(), remote.ip()) {
            break;
        }
        // The SYN is sent again and again; whoever connects loses patience first, or not.
        again.await;
    }
    let (there, back) = {
        let mut world = network.world();
        (
            world.delay(&conditions.delay),
            world.delay(&conditions.delay),
        )
    };
    sleep(there).await;
    let outcome = enter(network, host, local, remote);
    sleep(back).await;
    match outcome {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => std::future::pending().await,
        Err(error) => Err(error),
    }
}

/// Makes the connection and gives the other end to the listener.
fn enter(
    network: &SimNetwork,
    host: HostId,
    local: SocketAddr,
    remote: SocketAddr,
) -> io::Result<SimStream> {
    let (near, far, channel) = {
        let mut world = network.world();
        // No such host: nobody answers.
        let to = world
            .destination_host(host, remote.ip())
            .ok_or(io::ErrorKind::TimedOut)?;
        let listener =
            World::find(&world.listeners, to, remote).ok_or(io::ErrorKind::ConnectionRefused)?;
        let channel = listener.channel.clone();
        let id = world.next_id();
        world
            .connections
            .insert(id, Connection::new([local, remote]));
        let end = |side: usize| SimStream {
            network: network.clone(),
            id,
            side,
            ends: [local, remote],
            alarm: None,
        };
        (end(0), end(1), channel)
    };
    // Outside the lock, as an end that is dropped takes it. A full backlog refuses, as does a listener that is going.
    channel
        .try_send(far)
        .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
    Ok(near)
}

#[derive(Debug)]
struct SimListener {
    network: SimNetwork,
    host: HostId,
    local: SocketAddr,
    accepted: mpsc::Receiver<SimStream>,
}

#[async_trait]
impl StreamListener for SimListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    async fn accept(&mut self) -> io::Result<Box<dyn Stream>> {
        match self.accepted.recv().await {
            Some(stream) => Ok(Box::new(stream)),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.network
            .world()
            .listeners
            .remove(&(self.host, self.local));
    }
}

/// One end of a connection.
#[derive(Debug)]
struct SimStream {
    network: SimNetwork,
    id: u64,
    /// Which of the two it is.
    side: usize,
    ends: [SocketAddr; 2],
    /// Rings when the next bytes arrive.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl SimStream {
    fn far(&self) -> usize {
        1 - self.side
    }

    /// Looks what there is to read, without waiting. `Err`: when to look again, if that is known.
    fn read_now(
        &self,
        cx: &Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Result<io::Result<()>, Option<Instant>> {
        let mut world = self.network.world();
        let parted = world.is_parted(self.ends[0].ip(), self.ends[1].ip());
        let Some(connection) = world.connections.get_mut(&self.id) else {
            return Ok(Ok(()));
        };
        if connection.is_reset {
            return Ok(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let lane = &mut connection.lanes[self.side];
        lane.reader = Some(cx.waker().clone());
        if parted {
            return Err(None);
        }
        let now = Instant::now();
        match lane.segments.front_mut() {
            Some((arrival, _)) if *arrival > now => Err(Some(*arrival)),
            Some((_, bytes)) => {
                let length = bytes.len().min(buffer.remaining());
                buffer.put_slice(&bytes[..length]);
                bytes.advance(length);
                if bytes.is_empty() {
                    lane.segments.pop_front();
                }
                lane.under_way -= length;
                if let Some(writer) = lane.writer.take() {
                    writer.wake();
                }
                Ok(Ok(()))
            }
            None => match lane.end {
                Some(end) if end <= now => Ok(Ok(())),
                end => Err(end),
            },
        }
    }

    fn close_write(&self) {
        let mut world = self.network.world();
        let (from, to) = (self.ends[self.side], self.ends[self.far()]);
        let conditions = world.conditions(from.ip(), to.ip());
        let at = Instant::now() + world.delay(&conditions.delay);
        let Some(connection) = world.connections.get_mut(&self.id) else {
            return;
        };
        let lane = &mut connection.lanes[self.far()];
        if lane.end.is_none() {
            lane.end = Some(lane.arrival(at));
            if let Some(reader) = lane.reader.take() {
                reader.wake();
            }
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let next = match self.read_now(cx, buffer) {
                Ok(outcome) => return Poll::Ready(outcome),
                Err(None) => return Poll::Pending,
                Err(Some(next)) => next,
            };
            let alarm = self
                .alarm
                .get_or_insert_with(|| Box::pin(sleep_until(next)));
            if alarm.deadline() != next {
                alarm.as_mut().reset(next);
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.alarm = None;
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (from, to) = (self.ends[self.side], self.ends[self.far()]);
        let mut world = self.network.world();
        let conditions = world.conditions(from.ip(), to.ip());
        let Some(connection) = world.connections.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if connection.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let lane = &mut connection.lanes[self.far()];
        if lane.deaf || lane.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let length = bytes.len().min(WINDOW - lane.under_way);
        if length == 0 && !bytes.is_empty() {
            lane.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }

        let now = Instant::now();
        let written = Bytes::copy_from_slice(&bytes[..length]);
        let mut pieces = Vec::new();
        let mut rest = written.clone();
        while rest.len() > 1 && world.chance(conditions.fragmentation) {
            let cut = usize::try_from(world.random(1..=rest.len() as u64 - 1)).unwrap_or(1);
            pieces.push((world.delay(&conditions.delay), rest.split_to(cut)));
        }
        pieces.push((world.delay(&conditions.delay), rest));

        let Some(connection) = world.connections.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let lane = &mut connection.lanes[self.far()];
        lane.under_way += length;
        let mut last = now;
        for (delay, piece) in pieces {
            last = lane.arrival(now + delay);
            lane.segments.push_back((last, piece));
        }
        if let Some(reader) = lane.reader.take() {
            reader.wake();
        }
        let messages = messages(&mut lane.framer, &written);
        for message in messages {
            world.record(
                Transport::Tcp,
                from,
                to,
                message,
                Fate::Delivered(last - now),
            );
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close_write();
        Poll::Ready(Ok(()))
    }
}

impl Stream for SimStream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.ends[self.side])
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.ends[self.far()])
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.close_write();
        let mut world = self.network.world();
        let Some(connection) = world.connections.get_mut(&self.id) else {
            return;
        };
        connection.held -= 1;
        let lane = &mut connection.lanes[self.side];
        lane.deaf = true;
        lane.wake();
        if connection.held == 0 {
            world.connections.remove(&self.id);
        }
    }
}

/// Divides what is written into what is recorded: whole messages, keep-alives, and what is neither.
fn messages(framer: &mut StreamFramer, written: &Bytes) -> Vec<Bytes> {
    if framer.is_lost() {
        return vec![written.clone()];
    }
    let mut known = 0usize;
    let before = framer.buffered();
    framer.push(written);
    let frame = |frame| {
        let bytes = match frame {
            Frame::Message(message) => message.to_bytes(),
            Frame::Ping => Bytes::from_static(b"\r\n\r\n"),
            Frame::Pong => Bytes::from_static(b"\r\n"),
            // What is left once the messages before it are taken away.
            _ => written.slice(known.saturating_sub(before).min(written.len())..),
        };
        known += bytes.len();
        bytes
    };
    std::iter::from_fn(|| framer.next()).map(frame).collect()
}

/// Bytes that may be under way in one direction before the writer waits.
const WINDOW: usize = 64 * 1024;

/// Connections that wait to be accepted.
const BACKLOG: usize = 128;
