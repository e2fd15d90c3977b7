//! Messages as text.

use super::TraceSink;
use super::file::Growing;
use crate::{Direction, Observed};
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes each message as text: a title with direction, transport, addresses and time, the lines of the message, a blank line.
///
/// ```text
/// >>> udp 192.0.2.1:5060 from 198.51.100.7:5060 2026-11-23T08:45:23.000123Z
/// OPTIONS sip:bob@example.com SIP/2.0
/// …
///
/// <<< udp 192.0.2.1:5060 to 198.51.100.7:5060 2026-11-23T08:45:23.001204Z
/// SIP/2.0 200 OK
/// …
/// ```
///
/// `>>>` was sent and `<<<` received; the peer's address comes first, and times are UTC. What would drive a terminal is
/// escaped: control characters as `\x1b`, those that turn the direction of text as `\u{202e}`, and bytes that are no UTF-8 as
/// `\xff`. A line of a message that looks like a title gets a `\` in front. Credentials are shown.
pub struct TextTrace {
    output: Output,
}

enum Output {
    File(Growing),
    Other(Box<dyn Write + Send>),
}

impl TextTrace {
    /// Adds to the end of a file, or makes it. [`TraceSink::reopen`] opens it again by its name.
    pub fn append(path: &Path) -> io::Result<TextTrace> {
        Ok(TextTrace {
            output: Output::File(Growing::open(path)?),
        })
    }

    /// Writes to anything else, such as standard error: one write for each message, so that none is torn apart by another's.
    pub fn to(output: impl Write + Send + 'static) -> TextTrace {
        TextTrace {
            output: Output::Other(Box::new(output)),
        }
    }
}

impl TraceSink for TextTrace {
    fn name(&self) -> &str {
        match &self.output {
            Output::File(file) => file.name(),
            Output::Other(_) => "text",
        }
    }

    fn write(&mut self, message: &Observed<'_>) -> io::Result<()> {
        let text = as_text(message);
        match &mut self.output {
            Output::File(file) => file.add(text.as_bytes()),
            Output::Other(output) => output.write_all(text.as_bytes()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.output {
            Output::File(file) => file.flush(),
            Output::Other(output) => output.flush(),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        match &mut self.output {
            Output::File(file) => file.reopen(),
            Output::Other(_) => Ok(()),
        }
    }
}

impl fmt::Debug for TextTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TextTrace").field(&self.name()).finish()
    }
}

fn as_text(message: &Observed<'_>) -> String {
    let (arrow, word) = match message.direction {
        Direction::In => ("<<<", "to"),
        Direction::Out => (">>>", "from"),
    };
    let mut text = format!(
        "{arrow} {} {} {word} {} {}\n",
        message.flow.transport.parameter(),
        message.flow.remote,
        message.local,
        Utc(message.now.wall)
    );
    let lines = message.bytes.trim_ascii_end();
    for line in lines.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b">>> ") || line.starts_with(b"<<< ") {
            text.push('\\');
        }
        escape(line, &mut text);
        text.push('\n');
    }
    text.push('\n');
    text
}

fn escape(line: &[u8], text: &mut String) {
    for chunk in line.utf8_chunks() {
        for character in chunk.valid().chars() {
            // Writing to a string does not fail.
            let _ = match character {
                '\t' => text.write_char(character),
                _ if character.is_control() => write!(text, "\\x{:02x}", u32::from(character)),
                _ if turns_text(character) => write!(text, "\\u{{{:x}}}", u32::from(character)),
                _ => text.write_char(character),
            };
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
}

/// Characters that are not seen and change what is: marks, embeddings and isolates of direction, and separators of lines.
fn turns_text(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// A time as RFC 3339 writes it, in UTC and to the microsecond.
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = date(days);
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let micros = since.subsec_micros();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{micros:06}Z"
        )
    }
}

/// Gives the date so many days after 1970-01-01. Years begin in March here, so that the leap day is a year's last, and 400 of
/// them are always 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    // What is left without its leap days is years of 365 days.
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (year, month + 3),
        _ => (year + 1, month - 9),
    };
    (year + era * 400, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Flow, FlowId, Now, Transport};
    use std::time::{Duration, Instant};

    fn shown(direction: Direction, bytes: &[u8]) -> String {
        as_text(&Observed {
            now: Now {
                instant: Instant::now(),
                wall: UNIX_EPOCH + Duration::from_micros(1_700_000_000_007_001),
            },
            direction,
            flow: Flow {
                id: FlowId::from_u64(1),
                transport: Transport::Tls,
                remote: "192.0.2.1:5061".parse().unwrap(),
            },
            local: "[2001:db8::1]:5061".parse().unwrap(),
            bytes,
        })
    }

    #[test]
    fn a_message_has_a_title_its_lines_and_a_blank_line() {
        assert_eq!(
            shown(
                Direction::Out,
                b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n"
            ),
            ">>> tls 192.0.2.1:5061 from [2001:db8::1]:5061 2023-11-14T22:13:20.007001Z\n\
             OPTIONS sip:a SIP/2.0\nCall-ID: 1\n\n"
        );
        assert_eq!(
            shown(Direction::In, b"SIP/2.0 200 OK\r\n\r\nhello\r\n"),
            "<<< tls 192.0.2.1:5061 to [2001:db8::1]:5061 2023-11-14T22:13:20.007001Z\n\
             SIP/2.0 200 OK\n\nhello\n\n"
        );
    }

    #[test]
    fn what_would_drive_a_terminal_is_escaped() {
        let text = shown(
            Direction::In,
            b"SIP/2.0 200 \x1b[2J\xff\r\na: \xc2\x9b\tb\rc \xe2\x80\xae\xc3\xa4\r\n",
        );
        let (_, lines) = text.split_once('\n').unwrap();
        assert_eq!(
            lines,
            "SIP/2.0 200 \\x1b[2J\\xff\na: \\x9b\tb\\x0dc \\u{202e}ä\n\n"
        );
    }

    #[test]
    fn a_body_cannot_pass_for_another_message() {
        let text = shown(
            Direction::In,
            b"SIP/2.0 200 OK\r\n\r\n>>> udp 1.2.3.4:5060\r\n<<< x",
        );
        assert!(
            text.ends_with("\n\\>>> udp 1.2.3.4:5060\n\\<<< x\n\n"),
            "{text}"
        );
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_820, (2027, 1, 2)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }
}
