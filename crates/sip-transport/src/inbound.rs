//! What comes in.

use crate::{CloseReason, Flow, stamp};
use bytes::Bytes;
use sipora_message::{Message, ParseError, Request, StatusCode};
use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

/// Holds one thing that came in, and the flow that it came over.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inbound {
    /// The flow. For UDP its remote is the datagram's source.
    pub flow: Flow,
    /// What came.
    pub payload: Payload,
    /// What stamping has made of the message.
    pub(crate) stamped: Stamped,
    /// Closes when this has been dealt with. It is held, never read.
    #[allow(dead_code)]
    pub(crate) until_dropped: Option<oneshot::Sender<Infallible>>,
}

impl Inbound {
    pub(crate) fn new(flow: Flow, payload: Payload) -> Inbound {
        Inbound {
            flow,
            payload,
            stamped: Stamped::Not,
            until_dropped: None,
        }
    }

    /// Returns the message as it stood on the wire, where a request had not been stamped yet; `None` where no message came.
    pub fn as_received(&self) -> Option<Cow<'_, [u8]>> {
        let Payload::Message(message) = &self.payload else {
            return None;
        };
        let bytes = message.as_bytes();
        Some(match &self.stamped {
            Stamped::Not => Cow::Borrowed(bytes),
            Stamped::Replaced(received) => Cow::Borrowed(received),
            Stamped::With([one, other]) => {
                let parts = [
                    bytes.get(..one.start),
                    bytes.get(one.end..other.start),
                    bytes.get(other.end..),
                ];
                Cow::Owned(parts.map(Option::unwrap_or_default).concat())
            }
        })
    }
}

/// What has become of a request when it was stamped.
#[derive(Debug)]
pub(crate) enum Stamped {
    Not,
    /// These two pieces were put in, in order.
    With([Range<usize>; 2]),
    /// This is how it was.
    Replaced(Bytes),
}

/// Tells what came in over a flow.
#[derive(Debug)]
#[non_exhaustive]
pub enum Payload {
    /// A message. The top Via of a request has been stamped ([`stamp`](crate::stamp)); a response whose top Via is not
    /// ours has been discarded (RFC 3261 §18.1.2).
    Message(Message),
    /// Bytes that are no message.
    Malformed(Malformed),
    /// The connection has ended; nothing comes after this, and its id resolves no more.
    Closed(CloseReason),
    /// The network reported (ICMP) that a datagram to `flow.remote` did not arrive (RFC 3261 §18.4).
    Unreachable(io::ErrorKind),
}

/// Holds what could be read of bytes that are no message.
#[derive(Debug)]
pub struct Malformed {
    /// What could be read of a request, stamped where it has a top Via. Present when a 400 can be addressed; absent for
    /// responses and rubbish, which are dropped in silence.
    pub request: Option<Request>,
    /// The status that the request is owed.
    pub status: StatusCode,
    /// What is wrong, in words.
    pub reason: String,
    /// Where the message ends is unknown, so the connection closes by itself once a 400 has had its time. Always false
    /// for UDP.
    pub closes: bool,
}

impl Malformed {
    pub(crate) fn new(error: &ParseError, source: SocketAddr, closes: bool) -> Malformed {
        Malformed {
            request: error
                .request()
                .cloned()
                .map(|request| stamp(request, source)),
            status: error.status(),
            reason: error.to_string(),
            closes,
        }
    }
}

/// Gives the driver what comes in over stream connections. UDP comes from each [`UdpListener`](crate::UdpListener).
#[derive(Debug)]
pub struct InboundReceiver {
    pub(crate) channel: mpsc::Receiver<Inbound>,
}

impl InboundReceiver {
    /// Waits for the next. `None` when the transports are gone. May be cancelled without loss.
    pub async fn recv(&mut self) -> Option<Inbound> {
        self.channel.recv().await
    }

    /// Polls for the next.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Inbound>> {
        self.channel.poll_recv(cx)
    }

    /// Takes the next if there is one now.
    pub fn try_recv(&mut self) -> Option<Inbound> {
        self.channel.try_recv().ok()
    }
}
