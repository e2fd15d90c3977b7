//! Messages out of a byte stream (RFC 3261 §7.5 and §18.3, RFC 5626 §3.5.1).

use crate::error::{ParseError, ParseErrorKind};
use crate::index::{Defect, Head, index, index_section};
use crate::limits::Limits;
use crate::message::{Message, assemble};
use crate::request::Request;
use crate::scan;
use bytes::{Buf, Bytes, BytesMut};

/// Cuts a stream of bytes into messages and keep-alives.
///
/// Push what was read, then take frames until there are none. However the bytes are cut into chunks, the same messages
/// come out, and the same that [`Message::parse`] makes of each alone. At most [`Limits::header_bytes`] and
/// [`Limits::body`] are held back, next to the last chunk; a message that announces more is refused before its body is
/// waited for. Each byte is looked at a bounded number of times.
///
/// ```
/// use sipora_message::{Frame, Limits, StreamFramer};
///
/// let mut framer = StreamFramer::new(Limits::default());
/// framer.push(b"\r\n\r\nSIP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhel");
/// assert!(matches!(framer.next(), Some(Frame::Ping)));
/// assert!(framer.next().is_none());
/// framer.push(b"lo");
/// let Some(Frame::Message(message)) = framer.next() else { panic!() };
/// assert_eq!(message.body(), b"hello");
/// ```
pub struct StreamFramer {
    limits: Limits,
    buffer: BytesMut,
    state: State,
    /// Where the search for the blank line goes on.
    scanned: usize,
    /// Where the line begins in which the search goes on.
    line: usize,
    /// An odd number of CR LF was seen last.
    half_ping: bool,
}

/// What came out of the stream.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Frame {
    /// A message.
    Message(Message),
    /// CR LF CR LF between messages: the peer wants a single CR LF back (RFC 5626 §3.5.1).
    Ping,
    /// A single CR LF between messages: the answer to a ping of ours. It may also be the first half of a ping, which
    /// then follows as [`Frame::Ping`], or a line end before a message, which means nothing.
    Pong,
    /// Bytes that are no message.
    Error(FrameError),
}

/// Bytes on a stream that are no message.
#[derive(Clone, thiserror::Error)]
#[error("{error}")]
pub struct FrameError {
    #[source]
    error: ParseError,
    bytes: Bytes,
    recoverable: bool,
}

enum State {
    /// Between messages, or inside a header section.
    Head,
    /// The header section is indexed, the body is not here yet.
    Body(Box<Head>),
    /// A response whose status line cannot be read, which ends there.
    Unreadable(Box<Defect>, usize),
    /// Where the next message starts is unknown.
    Lost,
}

impl FrameError {
    /// Whether the next message can still be found. If not, answer if there is a [`FrameError::request`], then close.
    pub fn is_recoverable(&self) -> bool {
        self.recoverable
    }

    /// What could be read of a request, to be answered with [`FrameError::error`]'s status.
    pub fn request(&self) -> Option<&Request> {
        self.error.request()
    }

    /// What is wrong.
    pub fn error(&self) -> &ParseError {
        &self.error
    }

    /// The bytes, as far as they were read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The bytes may hold what does not belong into a log.
impl std::fmt::Debug for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameError")
            .field("error", &self.error)
            .field("bytes", &self.bytes.len())
            .field("recoverable", &self.recoverable)
            .finish()
    }
}

impl std::fmt::Debug for StreamFramer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamFramer({} octets)", self.buffer.len())
    }
}

impl StreamFramer {
    /// A framer at the start of a stream.
    pub fn new(limits: Limits) -> StreamFramer {
        StreamFramer {
            limits,
            buffer: BytesMut::new(),
            state: State::Head,
            scanned: 0,
            line: 0,
            half_ping: false,
        }
    }

    /// Adds bytes that were read. After an error that is not recoverable they are thrown away.
    pub fn push(&mut self, chunk: &[u8]) {
        if !self.is_lost() {
            self.buffer.extend_from_slice(chunk);
        }
    }

    /// Whether an error was not recoverable, so that nothing will come any more.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Whether part of a message is held: a peer that leaves it so for long wastes our memory.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The bytes that are held.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next frame; `None` when more bytes are needed.
    #[allow(clippy::should_implement_trait)] // It may give `None` and go on after the next push.
    pub fn next(&mut self) -> Option<Frame> {
        if let State::Head = self.state {
            if let Some(frame) = self.keep_alive() {
                return Some(frame);
            }
            match self.head_end() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(defect) => return Some(self.lose_early(defect)),
            }
            if let Some(frame) = self.head() {
                return Some(frame);
            }
        }
        self.body()
    }

    /// CR LF between messages.
    fn keep_alive(&mut self) -> Option<Frame> {
        if self.scanned > 0 {
            return None;
        }
        while self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
            self.half_ping = !self.half_ping;
            if !self.half_ping {
                return Some(Frame::Ping);
            }
            if self.buffer.is_empty() {
                return Some(Frame::Pong);
            }
        }
        if self.buffer.first().is_some_and(|byte| *byte != b'\r') {
            self.half_ping = false;
        }
        None
    }

    /// Whether the blank line is there; every line is held against the limits before more is waited for.
    fn head_end(&mut self) -> Result<bool, Defect> {
        // A lone CR may become a keep-alive; with any other byte behind it, it cannot.
        if self.buffer[..] == *b"\r" {
            return Ok(false);
        }
        if self.buffer.first() == Some(&b'\r') {
            return Err(Defect::new(ParseErrorKind::StartLine, 0));
        }
        loop {
            let rest = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(at) = scan::find(b'\n', rest) else {
                self.scanned = self.buffer.len();
                self.within_limits(self.scanned)?;
                return Ok(false);
            };
            let end = self.scanned + at + 1;
            self.within_limits(end)?;
            let blank = self.buffer.get(self.line..end) == Some(b"\r\n");
            self.scanned = end;
            self.line = end;
            if blank {
                return Ok(true);
            }
        }
    }

    fn within_limits(&self, end: usize) -> Result<(), Defect> {
        let length = end - self.line;
        if self.line == 0 && length > self.limits.start_line.saturating_add(2) {
            return Err(Defect::new(
                ParseErrorKind::StartLineTooLong,
                self.limits.start_line,
            ));
        }
        if end > self.limits.header_bytes {
            return Err(Defect::new(
                ParseErrorKind::HeadersTooLong,
                self.limits.header_bytes,
            ));
        }
        Ok(())
    }

    /// Indexes the header section, which is complete; gives a frame only if it cannot be a message.
    fn head(&mut self) -> Option<Frame> {
        let end = self.scanned;
        let section = self.buffer.get(..end).unwrap_or_default();
        let mut head = match index(section, &self.limits) {
            Ok(head) => head,
            Err(defect) => match end_of_unreadable_response(section, &self.limits) {
                Some(end) => {
                    self.state = State::Unreadable(Box::new(defect), end);
                    return None;
                }
                None => {
                    let bytes = self.buffer.split().freeze();
                    return Some(self.lose(unreadable(defect), bytes));
                }
            },
        };
        let length = match head.content_length {
            Some(length) if !head.ambiguous => length as usize,
            length => {
                // RFC 3261 §18.3: on streams "the Content-Length header field MUST be used".
                if length.is_none() && head.defect.is_none() {
                    head.defect = Some(Defect::new(ParseErrorKind::NoContentLength, end));
                }
                return Some(self.refuse(head, end));
            }
        };
        if length > self.limits.body {
            return Some(self.refuse(head, end));
        }
        self.state = State::Body(Box::new(head));
        None
    }

    fn body(&mut self) -> Option<Frame> {
        let end = match &self.state {
            State::Body(head) => {
                let length = head.content_length.unwrap_or(0) as usize;
                (head.body as usize).checked_add(length)?
            }
            State::Unreadable(_, end) => *end,
            State::Head | State::Lost => return None,
        };
        if self.buffer.len() < end {
            return None;
        }
        let bytes = self.take(end);
        self.scanned = 0;
        self.line = 0;
        self.half_ping = false;
        let (message, bytes) = match std::mem::replace(&mut self.state, State::Head) {
            State::Body(head) => {
                // Nothing but a defect makes an error, and a second handle would cost every good message.
                let kept = match head.defect {
                    Some(_) => bytes.clone(),
                    None => Bytes::new(),
                };
                (assemble(bytes, *head, &self.limits), kept)
            }
            State::Unreadable(defect, _) => (Err(unreadable(*defect)), bytes),
            State::Head | State::Lost => return None,
        };
        Some(match message {
            Ok(message) => Frame::Message(message),
            Err(error) => Frame::Error(FrameError {
                error,
                bytes,
                recoverable: true,
            }),
        })
    }

    /// Takes a message out at its exact size: one that is kept for long keeps no neighbours, and a connection that has
    /// fallen silent does not keep the room that its largest message took.
    fn take(&mut self, end: usize) -> Bytes {
        let bytes = Bytes::copy_from_slice(self.buffer.get(..end).unwrap_or_default());
        self.buffer.advance(end);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        bytes
    }

    /// Refuses a message whose end is unknown, or too far away.
    fn refuse(&mut self, head: Head, end: usize) -> Frame {
        let bytes = self.take(end);
        let error = match assemble(bytes.clone(), head, &self.limits) {
            Err(error) => error,
            // No head comes here without a defect or a body that is too long.
            Ok(_) => ParseError::new(ParseErrorKind::ContentLength, end, None, None),
        };
        self.lose(error, bytes)
    }

    /// Gives up on a header section before its end; what was read of a request may still be answered.
    fn lose_early(&mut self, defect: Defect) -> Frame {
        let held = self.buffer.split().freeze();
        let request = match index(&held, &self.limits) {
            Ok(head) => assemble(held.clone(), head, &self.limits).err(),
            Err(_) => None,
        };
        let request = request.and_then(|error| error.request().cloned());
        let error = ParseError::new(defect.kind, defect.offset, None, request);
        self.lose(error, held)
    }

    fn lose(&mut self, error: ParseError, bytes: Bytes) -> Frame {
        self.state = State::Lost;
        self.buffer = BytesMut::new();
        Frame::Error(FrameError {
            error,
            bytes,
            recoverable: false,
        })
    }
}

/// Where a message ends whose start line begins as a status line does, and is none: its header fields may say so all the
/// same. RFC 4475 §3.1.2.19 wants it discarded, and nothing else.
fn end_of_unreadable_response(section: &[u8], limits: &Limits) -> Option<usize> {
    if !section.starts_with(b"SIP/2.0 ") {
        return None;
    }
    let start_line = scan::find(b'\n', section)? + 1;
    let head = index_section(section.get(start_line..)?, limits).ok()?;
    let length = head.content_length.filter(|_| !head.ambiguous)? as usize;
    if head.defect.is_some() || length > limits.body {
        return None;
    }
    section.len().checked_add(length)
}

fn unreadable(defect: Defect) -> ParseError {
    ParseError::new(defect.kind, defect.offset, defect.header, None)
}
