//! Hooks that see every message.

use sipora_transport::{Flow, Now};

/// Says which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It was received.
    In,
    /// It was handed to its flow.
    Out,
}

/// Sees every message of an endpoint, for logs and tests. Its bytes may hold credentials.
///
/// A request that was received has its top Via stamped already. Bytes that are no message are not shown. It runs inside
/// the endpoint's task and must not block.
pub trait MessageObserver: Send + Sync + 'static {
    /// Sees one message.
    fn on_message(&self, now: Now, direction: Direction, flow: &Flow, bytes: &[u8]);
}

/// Writes a line for a message at debug, and all of it but credentials at trace.
pub(super) fn log(direction: Direction, flow: &Flow, bytes: &[u8]) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
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
        let shown: Vec<&str> = text.lines().map(without_credentials).collect();
        tracing::trace!(?direction, call_id, "{}", shown.join("\n"));
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

fn without_credentials(line: &str) -> &str {
    match line.split_once(':') {
        Some((name, _))
            if name
                .trim_end()
                .to_ascii_lowercase()
                .ends_with("authorization") =>
        {
            name
        }
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_logged() {
        assert_eq!(
            without_credentials("Authorization: Digest response=1"),
            "Authorization"
        );
        assert_eq!(
            without_credentials("Proxy-Authorization : Digest"),
            "Proxy-Authorization "
        );
        assert_eq!(without_credentials("From: <sip:a@b>"), "From: <sip:a@b>");
    }

    #[test]
    fn a_header_is_found_before_the_body_only() {
        let text = "OPTIONS sip:a SIP/2.0\r\nCall-ID : x\r\n\r\nCSeq: 1\r\n";
        assert_eq!(header(text, "call-id"), Some("x"));
        assert_eq!(header(text, "CSeq"), None);
    }
}
