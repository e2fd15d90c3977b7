//! What the log tells of messages.

use sipora_transport::{Direction, Flow};

/// Says whether anybody reads what would be logged.
pub(super) fn logs() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

/// Writes a line for a message at debug, and all of it but credentials at trace.
pub(super) fn log(direction: Direction, flow: &Flow, bytes: &[u8]) {
    if !logs() {
        return;
    }
    let text = String::from_utf8_lossy(bytes);
    let start_line = text.lines().next().unwrap_or("");
    let call_id = header(&text, "Call-ID")
        .or_else(|| header(&text, "i"))
        .unwrap_or("");
    let cseq = header(&text, "CSeq").unwrap_or("");
    tracing::debug!(
        ?direction,
        transport = %flow.transport,
        peer = %flow.remote,
        call_id,
        cseq,
        bytes = bytes.len(),
        "{start_line}"
    );
    if tracing::enabled!(tracing::Level::TRACE) {
        tracing::trace!(?direction, call_id, "{}", without_credentials(&text));
    }
}

fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .take_while(|line| !line.is_empty())
        .find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found
                .trim_end()
                .eq_ignore_ascii_case(name)
                .then(|| value.trim())
        })
}

/// Leaves out the values of Authorization and Proxy-Authorization, folded lines (RFC 3261 §7.3.1) too.
fn without_credentials(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut hides = false;
    for line in text.lines() {
        let is_folded = line.starts_with([' ', '\t']);
        if is_folded && hides {
            continue;
        }
        let name = line.split_once(':').map_or("", |(name, _)| name.trim_end());
        hides = !is_folded && name.to_ascii_lowercase().ends_with("authorization");
        if !shown.is_empty() {
            shown.push('\n');
        }
        shown.push_str(if hides { name } else { line });
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_logged() {
        let text = "REGISTER sip:a SIP/2.0\r\nAuthorization: Digest username=\"a\",\r\n response=\"5ec2e7\",\r\n\tnc=1\r\n\
                    Proxy-Authorization : Digest response=5ec2e7\r\nSubject: a\r\n b\r\n\r\nbody";
        assert_eq!(
            without_credentials(text),
            "REGISTER sip:a SIP/2.0\nAuthorization\nProxy-Authorization\nSubject: a\n b\n\nbody"
        );
    }

    #[test]
    fn a_header_is_found_before_the_body_only() {
        let text = "OPTIONS sip:a SIP/2.0\r\nCall-ID : x\r\n\r\nCSeq: 1\r\n";
        assert_eq!(header(text, "call-id"), Some("x"));
        assert_eq!(header(text, "CSeq"), None);
    }
}
