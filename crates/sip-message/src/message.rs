//! A message: request or response.

use bytes::{Buf, Bytes};

use crate::error::{ParseError, ParseErrorKind, Rejection};
use crate::headers::Headers;
use crate::index::{Defect, Head, Index, Span, StartLine, index, leading_line_ends};
use crate::limits::Limits;
use crate::request::Request;
use crate::response::Response;

/// A request or a response: its bytes, and an index of where everything is in them.
///
/// Cloning is cheap, the bytes and the index are shared.
///
/// ```
/// use sipora_message::{Limits, Message};
///
/// let message = Message::parse(&b"SIP/2.0 200 OK\r\nCSeq: 1 OPTIONS\r\n\r\nhello"[..], &Limits::default())?;
/// let Message::Response(response) = message else { panic!("a request") };
/// assert_eq!(response.status().as_u16(), 200);
/// assert_eq!(response.headers().cseq()?.number, 1);
/// assert_eq!(response.body(), b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// Parses a whole datagram by the rules of RFC 3261 §18.3: without Content-Length the body is all that follows
    /// the blank line; bytes beyond Content-Length are discarded; fewer bytes than Content-Length are an error.
    pub fn parse(bytes: impl Into<Bytes>, limits: &Limits) -> Result<Message, ParseError> {
        let mut bytes = bytes.into();
        // RFC 3261 §7.5: "ignore any CRLF appearing before the start-line".
        bytes.advance(leading_line_ends(&bytes));
        match index(&bytes, limits) {
            Ok(head) => assemble(bytes, head, limits),
            Err(defect) => Err(ParseError::new(
                defect.kind,
                defect.offset,
                defect.header,
                None,
            )),
        }
    }

    /// The header fields.
    pub fn headers(&self) -> Headers<'_> {
        self.raw().headers()
    }

    /// The body, without the blank line.
    pub fn body(&self) -> &[u8] {
        self.raw().body()
    }

    /// The message as received, or as it will be sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.raw().bytes
    }

    /// The same, sharing the buffer.
    pub fn to_bytes(&self) -> Bytes {
        self.raw().bytes.clone()
    }

    /// See [`Request::check`] and [`Response::check`].
    pub fn check(&self) -> Result<(), Rejection> {
        match self {
            Message::Request(request) => request.check(),
            Message::Response(response) => response.check(),
        }
    }

    /// The request, if it is one.
    pub fn as_request(&self) -> Option<&Request> {
        match self {
            Message::Request(request) => Some(request),
            Message::Response(_) => None,
        }
    }

    /// The response, if it is one.
    pub fn as_response(&self) -> Option<&Response> {
        match self {
            Message::Request(_) => None,
            Message::Response(response) => Some(response),
        }
    }

    fn raw(&self) -> &Raw {
        match self {
            Message::Request(request) => &request.raw,
            Message::Response(response) => &response.raw,
        }
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Message {
        Message::Request(request)
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Message {
        Message::Response(response)
    }
}

/// What requests and responses have in common.
#[derive(Clone)]
pub(crate) struct Raw {
    /// The message and nothing else.
    pub(crate) bytes: Bytes,
    pub(crate) index: Index,
    pub(crate) body: u32,
}

impl Raw {
    pub(crate) fn headers(&self) -> Headers<'_> {
        Headers::new(&self.bytes, &self.index, self.body as usize)
    }

    pub(crate) fn body(&self) -> &[u8] {
        self.bytes.get(self.body as usize..).unwrap_or_default()
    }
}

/// Joins bytes and head to a message, and applies the rules for the body of a datagram.
pub(crate) fn assemble(
    bytes: Bytes,
    mut head: Head,
    limits: &Limits,
) -> Result<Message, ParseError> {
    let available = bytes.len().saturating_sub(head.body as usize);
    let length = head
        .content_length
        .map_or(available, |length| length as usize);
    let defect = head
        .defect
        .take()
        .or_else(|| body_defect(&head, available, length, limits));
    let end = bytes.len().min((head.body as usize).saturating_add(length));
    let raw = Raw {
        bytes: if end < bytes.len() {
            bytes.slice(..end)
        } else {
            bytes
        },
        index: head.index,
        body: head.body,
    };
    let message = match head.start_line {
        StartLine::Request {
            method,
            uri,
            version,
            exact,
        } => Message::Request(Request {
            raw,
            method,
            uri,
            version,
            exact,
        }),
        StartLine::Response {
            version,
            status,
            reason,
        } => Message::Response(Response {
            raw,
            version,
            status,
            reason,
        }),
    };
    let Some(Defect {
        kind,
        offset,
        header,
    }) = defect
    else {
        return Ok(message);
    };
    let request = match message {
        Message::Request(request) => Some(request),
        Message::Response(_) => None,
    };
    Err(ParseError::new(kind, offset, header, request))
}

fn body_defect(head: &Head, available: usize, length: usize, limits: &Limits) -> Option<Defect> {
    let kind = if length > limits.body {
        ParseErrorKind::BodyTooLong
    } else if length > available {
        ParseErrorKind::BodyTooShort
    } else {
        return None;
    };
    let offset = head
        .index
        .lines()
        .iter()
        .find(|line| line.id == crate::HeaderName::ContentLength.known_id())
        .map_or(head.body, |line| line.value.start);
    Some(Defect {
        kind,
        offset: offset as usize,
        header: head
            .content_length
            .map(|_| crate::HeaderName::ContentLength),
    })
}

/// The text of a span; empty where it is no UTF-8, which only messages that were refused can have.
pub(crate) fn text(bytes: &[u8], span: Span) -> &str {
    span.text(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_from_thread_to_thread() {
        fn assert_send_sync<T: Send + Sync + 'static>() {}
        assert_send_sync::<Message>();
        assert_send_sync::<ParseError>();
        assert_send_sync::<crate::StreamFramer>();
    }
}
