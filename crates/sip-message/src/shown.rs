//! How messages look in logs: what they are and how much there is, in a line. Values of header fields and bodies may hold what
//! does not belong there, and anything may be in what a peer writes.

use std::fmt::{self, Display, Formatter, Write};

use crate::body::Fragment;
use crate::edit::Edit;
use crate::headers::Headers;
use crate::index::StartLine;
use crate::message::{Message, Raw};
use crate::request::Request;
use crate::response::Response;
use crate::uri::UriRef;

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Message::Request(request) => request.fmt(f),
            Message::Response(response) => response.fmt(f),
        }
    }
}

/// Shows method, Request-URI and CSeq, and how much else there is.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Request(")?;
        request_line(f, self.method.as_str(), self.uri.of(&self.raw.bytes))?;
        f.write_str(", ")?;
        rest(f, &self.raw)
    }
}

/// Shows status, reason phrase and CSeq, and how much else there is.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let reason = Shown(self.reason.of(&self.raw.bytes));
        write!(f, "Response({} {reason}, ", self.status)?;
        rest(f, &self.raw)
    }
}

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Fragment(")?;
        match &self.start_line {
            Some(StartLine::Request { method, uri, .. }) => {
                request_line(f, method.as_str(), uri.of(&self.bytes))?;
                f.write_str(", ")?;
            }
            Some(StartLine::Response { status, reason, .. }) => {
                write!(f, "{status} {}, ", Shown(reason.of(&self.bytes)))?;
            }
            None => {}
        }
        sizes(f, &self.headers(), self.body().unwrap_or_default())
    }
}

/// Shows what is changed, and not how.
impl<M: fmt::Debug> fmt::Debug for Edit<M> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Edit({:?})", self.message)
    }
}

fn request_line(f: &mut Formatter<'_>, method: &str, uri: &[u8]) -> fmt::Result {
    write!(f, "{} ", Shown(method.as_bytes()))?;
    let password = std::str::from_utf8(uri)
        .ok()
        .and_then(|text| UriRef::parse(text).ok()?.password());
    let Some(password) = password else {
        return write!(f, "{}", Shown(uri));
    };
    let at = crate::classes::offset_in(uri, password.as_bytes());
    let (before, after) = uri.split_at_checked(at).unwrap_or_default();
    let after = after.get(password.len()..).unwrap_or_default();
    write!(f, "{}***{}", Shown(before), Shown(after))
}

fn rest(f: &mut Formatter<'_>, raw: &Raw) -> fmt::Result {
    sizes(f, &raw.headers(), raw.body())
}

fn sizes(f: &mut Formatter<'_>, headers: &Headers<'_>, body: &[u8]) -> fmt::Result {
    if let Ok(cseq) = headers.cseq() {
        let method = Shown(cseq.method.as_str().as_bytes());
        write!(f, "CSeq {} {method}, ", cseq.number)?;
    }
    let (fields, octets) = (headers.iter().count(), body.len());
    write!(f, "{fields} header fields, {octets} octets of body)")
}

/// Text of a peer's: what does not print is escaped, and what is too long is cut.
struct Shown<'a>(&'a [u8]);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // No character takes more octets.
        let text = String::from_utf8_lossy(self.0.get(..4 * LONGEST).unwrap_or(self.0));
        let mut chars = text.chars();
        for char in chars.by_ref().take(LONGEST) {
            match char {
                '\'' | '"' | '\\' => f.write_char(char)?,
                char => write!(f, "{}", char.escape_debug())?,
            }
        }
        match chars.next() {
            Some(_) => f.write_char('…'),
            None => Ok(()),
        }
    }
}

/// Characters of a start line's part that are shown: whole, where it is any that people write.
const LONGEST: usize = 128;
