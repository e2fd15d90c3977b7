//! What `-v` shows: every message, with its direction, the peer and the time.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use sipora_session_core::{Direction, MessageObserver, Observed};

use crate::output::printable;

/// Writes each message to standard error as it goes over the wire, credentials and all.
pub(crate) struct Trace;

impl MessageObserver for Trace {
    fn on_message(&self, message: &Observed<'_>) {
        let arrow = match message.direction {
            Direction::In => "<<<",
            Direction::Out => ">>>",
        };
        let title = format!(
            "{arrow} {} {} {}",
            message.flow.transport.parameter(),
            message.flow.remote,
            time_of_day(message.now.wall)
        );
        // One write a message, so that none is torn apart by another. A closed standard error is no reason to stop.
        let _ = io::stderr().write_all(shown(&title, message.bytes).as_bytes());
    }
}

/// Gives a message as it is shown: title, text, a blank line.
fn shown(title: &str, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = format!("{title}\n");
    for line in text.trim_end_matches(['\r', '\n']).lines() {
        shown.push_str(&printable(line));
        shown.push('\n');
    }
    shown.push('\n');
    shown
}

/// Gives the time of day in UTC, to the millisecond.
pub(crate) fn time_of_day(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, milliseconds) = (since.as_secs() % 86_400, since.subsec_millis());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_of_day_is_utc_to_the_millisecond() {
        let time = UNIX_EPOCH + Duration::from_millis(1_700_000_000_007);
        assert_eq!(time_of_day(time), "22:13:20.007Z");
    }

    #[test]
    fn a_message_is_shown_line_by_line_and_ends_with_a_blank_line() {
        let shown = shown(">>> title", b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n");
        assert_eq!(shown, ">>> title\nOPTIONS sip:a SIP/2.0\nCall-ID: 1\n\n");
    }

    #[test]
    fn a_body_is_shown_after_its_blank_line() {
        let shown = shown("<<< title", b"SIP/2.0 200 OK\r\n\r\nhello\r\n");
        assert_eq!(shown, "<<< title\nSIP/2.0 200 OK\n\nhello\n\n");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        let shown = shown("<<< title", b"SIP/2.0 200 \x1b[2J\xff\r\n\r\n");
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
