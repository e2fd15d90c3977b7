//! Request lines and status lines (RFC 3261 §7.1, §7.2).

use super::{Defect, Facts, Span, StartLine};
use crate::classes::{decimal, offset_in, trim};
use crate::error::ParseErrorKind;
use crate::limits::Limits;
use crate::method::Method;
use crate::scan;
use crate::status::StatusCode;

/// Reads the first line; gives also where the next one starts, and what is wrong with one that could be read.
#[inline]
pub(super) fn read(
    bytes: &[u8],
    limits: &Limits,
    facts: &mut Facts,
) -> Result<(StartLine, usize, Option<Defect>), Defect> {
    let length = scan::line_end(bytes).unwrap_or(bytes.len());
    let line = bytes.get(..length).unwrap_or_default();
    if bytes.get(length..length + 2) != Some(b"\r\n") {
        return Err(Defect::new(ParseErrorKind::StartLine, length));
    }
    let mut defect = None;
    if length > limits.start_line {
        defect = Some(Defect::new(
            ParseErrorKind::StartLineTooLong,
            limits.start_line,
        ));
    }
    let start_line = if is_sip_version(line) {
        status_line(line)?
    } else {
        let (request_line, is_text) = request_line(line, facts)?;
        if !is_text {
            defect.get_or_insert(Defect::new(ParseErrorKind::StartLine, 0));
        }
        request_line
    };
    Ok((start_line, length + 2, defect))
}

fn is_sip_version(text: &[u8]) -> bool {
    matches!(text, [b'S' | b's', b'I' | b'i', b'P' | b'p', b'/', ..])
}

/// `Method SP Request-URI SP SIP-Version`. What lies between the first and the last space is the URI, spaces and all,
/// so that the validator can refuse it with the status owed. Tells also whether URI and version are UTF-8.
fn request_line(line: &[u8], facts: &mut Facts) -> Result<(StartLine, bool), Defect> {
    let refused = |at: usize| Defect::new(ParseErrorKind::StartLine, at);
    let method_len = scan::near(b' ', line).ok_or(refused(line.len()))?;
    let method = line.get(..method_len).and_then(Method::from_bytes);
    let method = method.ok_or(refused(0))?;
    let rest = trim(line.get(method_len..).unwrap_or_default());
    let (uri, version) = match rest.strip_suffix(b" SIP/2.0") {
        // How everybody writes it.
        Some(uri) => (uri, rest.get(uri.len() + 1..).unwrap_or_default()),
        None => uri_and_version(line, rest)?,
    };
    let uri = trim(uri);
    let place = |part: &[u8]| {
        let at = offset_in(line, part);
        Span::new(at, at + part.len())
    };
    // A URI that is known is ASCII.
    let is_text = (facts.learn_uri(uri) || scan::text(uri).is_some())
        && (version == b"SIP/2.0" || scan::text(version).is_some());
    let start_line = StartLine::Request {
        exact: method_len + uri.len() + version.len() + 2 == line.len(),
        method,
        uri: place(uri),
        version: place(version),
    };
    Ok((start_line, is_text))
}

/// What stands in front of the last space and behind it, which must be a version.
#[cold]
fn uri_and_version<'a>(line: &[u8], rest: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Defect> {
    let refused = |at: usize| Defect::new(ParseErrorKind::StartLine, at);
    let uri_len = scan::rfind(b' ', rest).ok_or(refused(line.len()))?;
    let (uri, version) = rest.split_at_checked(uri_len).unwrap_or_default();
    let version = version.get(1..).unwrap_or_default();
    if !is_sip_version(version) {
        return Err(refused(offset_in(line, version)));
    }
    Ok((uri, version))
}

/// `SIP-Version SP Status-Code SP Reason-Phrase`; the last space may be missing (RFC 4475 §3.1.1.13).
fn status_line(line: &[u8]) -> Result<StartLine, Defect> {
    let version_len =
        scan::near(b' ', line).ok_or(Defect::new(ParseErrorKind::StartLine, line.len()))?;
    let code_at = version_len + 1;
    let rest = line.get(code_at..).unwrap_or_default();
    let code_len = scan::near(b' ', rest).unwrap_or(rest.len());
    let status = match rest.get(..code_len) {
        Some(code) if code_len == 3 => decimal(code),
        _ => None,
    };
    let status = status
        .and_then(|code| u16::try_from(code).ok())
        .and_then(StatusCode::new)
        .ok_or(Defect::new(ParseErrorKind::StatusCode, code_at))?;
    let reason_at = (code_at + code_len + 1).min(line.len());
    Ok(StartLine::Response {
        version: Span::new(0, version_len),
        status,
        reason: Span::new(reason_at, line.len()),
    })
}

/// Whether the first line is a start line: it has the version first or last, and a space that no header name has.
pub(crate) fn is_start_line(bytes: &[u8]) -> bool {
    let length = scan::find(b'\r', bytes).unwrap_or(bytes.len());
    let line = bytes.get(..length).unwrap_or_default();
    let last = scan::rfind(b' ', line).and_then(|at| line.get(at + 1..));
    is_sip_version(line)
        || last.is_some_and(|last| {
            is_sip_version(last) && request_line(line, &mut Facts::default()).is_ok()
        })
}

/// How many bytes of CR LF stand in front of the start line.
#[inline]
pub(crate) fn leading_line_ends(bytes: &[u8]) -> usize {
    let mut at = 0;
    while bytes.get(at..at + 2) == Some(b"\r\n") {
        at += 2;
    }
    at
}
