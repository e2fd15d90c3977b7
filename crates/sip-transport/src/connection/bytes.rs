//! Connections over which bytes come in order: they are divided into messages by their Content-Length (RFC 3261 §18.3).

use super::keep_alive::{LineEnds, Meaning};
use super::{Activity, Link};
use crate::{CloseReason, Stream};
use ::bytes::{Buf, Bytes};
use sipora_message::{Frame, StreamFramer};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::trace;

/// Reads and writes until the connection ends.
pub(super) async fn run(
    link: &Link<'_>,
    stream: Box<dyn Stream>,
    queue: &mut mpsc::Receiver<Bytes>,
) -> CloseReason {
    let (reader, mut writer) = tokio::io::split(stream);
    let activity = Activity::new();
    // What is being written outlives the future that writes it, so that what is flushed begins where that left off.
    let mut writing = Bytes::new();

    let reason = tokio::select! {
        // In this order, so that a message which has come is seen before what was asked for later.
        biased;
        reason = receive(link, reader, &activity) => reason,
        reason = write(link, &mut writer, queue, &mut writing, &activity) => reason,
        reason = link.keep_alive() => reason,
        reason = link.silence(&activity) => reason,
        reason = link.connection.end_asked() => reason,
    };
    if link.leave(&reason) {
        let _ = timeout(link.config().linger, flush(&mut writer, queue, writing)).await;
    }
    reason
}

/// Reads until nothing more will come, and then waits for the answers to what came: a peer that has sent all it wants to
/// say (TCP's half-close) may still listen.
async fn receive<R>(link: &Link<'_>, reader: R, activity: &Activity) -> CloseReason
where
    R: AsyncRead + Unpin,
{
    let reason = read(link, reader, activity).await;
    if matches!(reason, CloseReason::ByPeer | CloseReason::InMessage) {
        // Whoever wants to send a request to this peer opens another connection.
        link.shared.table.remove_route(link.connection);
        let answered = link.connection.all_answered();
        let _ = timeout(link.config().half_closed_timeout, answered).await;
    }
    reason
}

/// Divides what comes into messages, and hands them on. While the driver has no room, nothing more is read.
async fn read<R>(link: &Link<'_>, mut reader: R, activity: &Activity) -> CloseReason
where
    R: AsyncRead + Unpin,
{
    let (config, flow) = (link.config(), link.connection.flow);
    let mut framer = StreamFramer::new(config.message);
    let mut buffer = vec![0; READ_BUFFER].into_boxed_slice();
    let mut line_ends = LineEnds::default();
    // Since when a message has been unfinished.
    let mut partial: Option<Instant> = None;
    let mut patience = link.first_patience();
    loop {
        let deadline = match partial {
            Some(since) => since + config.partial_message_timeout,
            None => activity.last() + patience,
        };
        let length = match timeout_at(deadline, reader.read(&mut buffer)).await {
            Ok(Ok(0)) if framer.is_partial() => return CloseReason::InMessage,
            Ok(Ok(0)) => return CloseReason::ByPeer,
            Ok(Ok(length)) => length,
            Ok(Err(error)) => return CloseReason::Io(error.kind()),
            Err(_) if partial.is_some() => return CloseReason::PartialMessage,
            // Something has been written meanwhile: idle is silence both ways.
            Err(_) if activity.last() + patience > Instant::now() => continue,
            Err(_) => return CloseReason::Idle,
        };
        activity.read();
        patience = config.idle_timeout;
        trace!(peer = %flow.remote, flow = %flow.id, length, "received");

        framer.push(buffer.get(..length).unwrap_or_default());
        let mut completed = false;
        while let Some(frame) = framer.next() {
            completed = true;
            if let Err(reason) = take(link, frame, &mut line_ends).await {
                discard(&mut reader, &mut buffer, config.linger).await;
                return reason;
            }
        }
        partial = match framer.is_partial() {
            false => None,
            true if completed => Some(Instant::now()),
            true => partial.or_else(|| Some(Instant::now())),
        };
    }
}

/// Deals with one frame. `Err`: nothing can be framed any more.
async fn take(link: &Link<'_>, frame: Frame, line_ends: &mut LineEnds) -> Result<(), CloseReason> {
    let keep_alive = &link.connection.keep_alive;
    let meaning = match &frame {
        Frame::Ping => line_ends.double(keep_alive),
        Frame::Pong => line_ends.single(keep_alive),
        _ => {
            line_ends.message();
            Meaning::Other
        }
    };
    if meaning == Meaning::Ping {
        return link.answer_ping();
    }
    match frame {
        Frame::Message(message) => link.message(message).await,
        Frame::Error(error) => {
            let closes = !error.is_recoverable();
            link.malformed(error.bytes(), error.error(), closes).await
        }
        _ => Ok(()),
    }
}

/// Reads and forgets for a while: a socket closed with unread bytes is reset, and the reset would overtake our 400.
async fn discard<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut [u8], linger: Duration) {
    let _ = timeout(linger, async {
        while reader.read(buffer).await.is_ok_and(|length| length > 0) {}
    })
    .await;
}

/// Writes what is queued.
async fn write<W>(
    link: &Link<'_>,
    writer: &mut W,
    queue: &mut mpsc::Receiver<Bytes>,
    writing: &mut Bytes,
    activity: &Activity,
) -> CloseReason
where
    W: AsyncWrite + Unpin,
{
    let patience = link.config().write_timeout;
    while let Some(message) = queue.recv().await {
        *writing = message;
        while !writing.is_empty() {
            match timeout(patience, writer.write(writing)).await {
                Ok(Ok(0)) => return CloseReason::Io(std::io::ErrorKind::WriteZero),
                Ok(Ok(length)) => {
                    writing.advance(length);
                    link.connection.waiting.fetch_sub(length, Ordering::AcqRel);
                    activity.touch();
                }
                Ok(Err(error)) => return CloseReason::Io(error.kind()),
                Err(_) => return CloseReason::SlowReader,
            }
        }
        // TLS takes bytes before the network does, some ten thousand at most; this waits until they are on their way.
        match timeout(patience, writer.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return CloseReason::Io(error.kind()),
            Err(_) => return CloseReason::SlowReader,
        }
    }
    // The table holds a sender while the connection is in it.
    CloseReason::ByUs
}

/// Writes what is still queued and says that no more will come.
async fn flush<W>(
    writer: &mut W,
    queue: &mut mpsc::Receiver<Bytes>,
    writing: Bytes,
) -> std::io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    queue.close();
    writer.write_all(&writing).await?;
    while let Some(message) = queue.recv().await {
        writer.write_all(&message).await?;
    }
    writer.shutdown().await
}

/// Bytes read at once: a few messages of the usual size. Kept small, as every connection has one.
const READ_BUFFER: usize = 4 * 1024;
