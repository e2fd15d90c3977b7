//! [`MediaDirection`]: hold and resume, in the text of a session description.

/// Where media flow, as the side that writes a session description sees it (RFC 4566 §6, RFC 3264 §5.1).
///
/// A session is held by an offer that only sends (or does neither), and its answer only receives (RFC 3264 §8.4).
/// [`CallHandle::hold`](crate::CallHandle::hold) makes such an offer; this type is for who answers one, or makes its own.
///
/// ```
/// use sipora_session_core::MediaDirection;
///
/// let theirs = "v=0\r\no=- 7 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\na=sendonly\r\n";
/// let ours = "v=0\r\no=- 9 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n";
///
/// let offered = MediaDirection::of(theirs);
/// assert!(!offered.receives());
/// let answer = offered.reversed().in_sdp(ours);
/// assert!(answer.ends_with("a=recvonly\r\n") && answer.contains("o=- 9 2 IN"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaDirection {
    /// Both ways.
    SendRecv,
    /// It sends only: it holds the peer.
    SendOnly,
    /// It receives only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl MediaDirection {
    /// Reads the direction of a description: whether any stream in it that is not refused (port 0) sends, and any receives. What
    /// says nothing does both; who receives at 0.0.0.0 does not (RFC 3264 §8.4).
    pub fn of(sdp: &str) -> Self {
        let (mut sends, mut receives) = (false, false);
        let mut session = Section::SILENT;
        let mut stream: Option<Section> = None;
        let mut close = |stream: Option<Section>| {
            if let Some(stream) = stream.filter(|stream| !stream.is_refused) {
                sends |= stream.direction.sends();
                receives |= stream.direction.receives() && !stream.is_nowhere;
            }
        };
        for line in lines(sdp) {
            if let Some(media) = line.strip_prefix("m=") {
                close(stream.take());
                stream = Some(Section {
                    is_refused: is_refused(media),
                    ..session
                });
                continue;
            }
            stream.as_mut().unwrap_or(&mut session).read(line);
        }
        close(stream);
        Self::made_of(sends, receives)
    }

    /// Writes it into every stream of a description that is not refused, and counts its version up by one, as RFC 3264 §8 demands
    /// of a description that has changed.
    pub fn in_sdp(self, sdp: &str) -> String {
        rewritten(sdp, |_| self)
    }

    /// The direction of the other side: that of an answer which takes an offer as it is.
    pub fn reversed(self) -> Self {
        Self::made_of(self.receives(), self.sends())
    }

    /// Whether it sends.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether it receives.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    fn made_of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let all = [
            Self::SendRecv,
            Self::SendOnly,
            Self::RecvOnly,
            Self::Inactive,
        ];
        let attribute = line.strip_prefix("a=")?;
        all.into_iter().find(|one| one.attribute() == attribute)
    }

    fn attribute(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

/// The description that holds its reader: nothing is received any more. "If the stream to be placed on hold was previously a
/// sendrecv media stream, it is placed on hold by marking it as sendonly. If [...] recvonly, [...] inactive" (RFC 3264 §8.4).
pub(super) fn held(sdp: &str) -> String {
    rewritten(sdp, |before| MediaDirection::made_of(before.sends(), false))
}

/// The description that takes the hold back: what is not sent since the reader holds us stays so.
pub(super) fn resumed(sdp: &str) -> String {
    rewritten(sdp, |before| MediaDirection::made_of(before.sends(), true))
}

/// Says whether there is a stream that is not refused: what has none can be neither held nor resumed.
pub(super) fn has_streams(sdp: &str) -> bool {
    let mut streams = lines(sdp).filter_map(|line| line.strip_prefix("m="));
    streams.any(|media| !is_refused(media))
}

/// The version in `o=`, and the description with another.
pub(super) fn version(sdp: &str) -> Option<u64> {
    let origin = lines(sdp).find_map(|line| line.strip_prefix("o="))?;
    origin.split(' ').nth(2)?.parse().ok()
}

/// Says whether two descriptions are of one session by their `o=`, whose version alone counts up (RFC 3264 §8).
pub(super) fn is_same_origin(one: &str, other: &str) -> bool {
    let origin = |sdp| {
        let origin = lines(sdp).find_map(|line| line.strip_prefix("o="))?;
        Some(with_field(origin, 0))
    };
    origin(one) == origin(other)
}

/// Replaces the version in `o=`.
pub(super) fn with_version(sdp: &str, version: u64) -> String {
    let mut text = String::with_capacity(sdp.len() + 2);
    for line in lines(sdp) {
        match line.strip_prefix("o=") {
            Some(origin) => text.push_str(&with_field(origin, version)),
            None => text.push_str(line),
        }
        text.push_str("\r\n");
    }
    text
}

fn with_field(origin: &str, version: u64) -> String {
    let mut text = "o=".to_owned();
    for (at, field) in origin.split(' ').enumerate() {
        if at > 0 {
            text.push(' ');
        }
        match at {
            2 => text.push_str(&version.to_string()),
            _ => text.push_str(field),
        }
    }
    text
}

/// What one part of a description says, the session's or a stream's.
#[derive(Clone, Copy)]
struct Section {
    direction: MediaDirection,
    is_refused: bool,
    is_nowhere: bool,
}

impl Section {
    /// One that says nothing.
    const SILENT: Self = Self {
        direction: MediaDirection::SendRecv,
        is_refused: false,
        is_nowhere: false,
    };

    fn read(&mut self, line: &str) {
        if let Some(direction) = MediaDirection::parse(line) {
            self.direction = direction;
        } else if let Some(connection) = line.strip_prefix("c=") {
            self.is_nowhere = connection == "IN IP4 0.0.0.0";
        }
    }
}

/// Changes the direction of every stream that is not refused. The session's own, which streams take that say nothing, moves into
/// the streams.
fn rewritten(sdp: &str, change: impl Fn(MediaDirection) -> MediaDirection) -> String {
    let mut session = MediaDirection::SendRecv;
    let mut text = String::with_capacity(sdp.len() + 32);
    // The direction of the stream that is being written; of one that is refused nothing is changed.
    let mut stream: Option<(MediaDirection, bool)> = None;
    let close = |text: &mut String, stream: Option<(MediaDirection, bool)>| {
        if let Some((direction, is_refused)) = stream {
            let direction = if is_refused {
                direction
            } else {
                change(direction)
            };
            text.push_str("a=");
            text.push_str(direction.attribute());
            text.push_str("\r\n");
        }
    };
    for line in lines(sdp) {
        if let Some(media) = line.strip_prefix("m=") {
            close(&mut text, stream.take());
            stream = Some((session, is_refused(media)));
        } else if let Some(direction) = MediaDirection::parse(line) {
            match &mut stream {
                Some((of_stream, _)) => *of_stream = direction,
                None => session = direction,
            }
            continue;
        }
        text.push_str(line);
        text.push_str("\r\n");
    }
    close(&mut text, stream);
    match version(&text).and_then(|version| version.checked_add(1)) {
        Some(next) => with_version(&text, next),
        None => text,
    }
}

fn lines(sdp: &str) -> impl Iterator<Item = &str> {
    sdp.lines().filter(|line| !line.is_empty())
}

/// `m=audio 0 ...`: "a port of zero indicates that the stream is not wanted" (RFC 3264 §5.1).
fn is_refused(media: &str) -> bool {
    media.split(' ').nth(1) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::MediaDirection::*;
    use super::*;

    const PLAIN: &str = "v=0\r\no=- 5 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                         m=audio 4000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

    #[test]
    fn who_says_nothing_does_both() {
        assert_eq!(MediaDirection::of(PLAIN), SendRecv);
        assert_eq!(
            MediaDirection::of("v=0\r\n"),
            Inactive,
            "there is no stream"
        );
    }

    #[test]
    fn a_hold_is_taken_back_whoever_else_holds() {
        for (before, while_held) in [(SendRecv, SendOnly), (RecvOnly, Inactive)] {
            let sdp = before.in_sdp(PLAIN);
            let held = held(&sdp);
            assert_eq!(MediaDirection::of(&held), while_held);
            assert_eq!(MediaDirection::of(&resumed(&held)), before);
            assert_eq!(version(&sdp), Some(2));
            assert_eq!(version(&resumed(&held)), Some(4));
        }
    }

    #[test]
    fn all_but_direction_and_version_stay_and_an_attribute_is_there_once() {
        let twice = SendOnly.in_sdp(&RecvOnly.in_sdp(PLAIN));
        let expected = format!("{}a=sendonly\r\n", PLAIN.replace(" 5 1 ", " 5 3 "));
        assert_eq!(twice, expected);
    }

    #[test]
    fn a_direction_of_the_session_is_that_of_streams_that_have_none() {
        let sdp = PLAIN.replace("t=0 0\r\n", "t=0 0\r\na=recvonly\r\n")
            + "m=video 4002 RTP/AVP 31\r\na=sendonly\r\n";
        assert_eq!(
            MediaDirection::of(&sdp),
            SendRecv,
            "one does this, one that"
        );
        let held = held(&sdp);
        let directions: Vec<&str> = held
            .lines()
            .filter(|line| line.starts_with("a=in") || line.starts_with("a=se"))
            .collect();
        assert_eq!(directions, ["a=inactive", "a=sendonly"]);
        assert!(!held.contains("recvonly"));
    }

    #[test]
    fn a_refused_stream_stays_as_it_is() {
        let sdp = format!("{PLAIN}m=video 0 RTP/AVP 31\r\na=inactive\r\n");
        let held = held(&sdp);
        assert!(
            held.ends_with("a=sendonly\r\nm=video 0 RTP/AVP 31\r\na=inactive\r\n"),
            "{held}"
        );
        assert_eq!(MediaDirection::of(&held), SendOnly);
    }

    #[test]
    fn a_stream_is_there_that_is_not_refused() {
        assert!(has_streams(PLAIN));
        assert!(!has_streams("v=0\r\no=- 5 1 IN IP4 192.0.2.1\r\n"));
        assert!(!has_streams(&PLAIN.replace("4000", "0")));
        assert!(has_streams(&format!("m=video 0 RTP/AVP 31\r\n{PLAIN}")));
    }

    #[test]
    fn who_receives_at_no_address_receives_nothing() {
        let nowhere = PLAIN.replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0");
        assert_eq!(MediaDirection::of(&nowhere), SendOnly);
        let of_stream = nowhere + "c=IN IP4 192.0.2.1\r\n";
        assert_eq!(MediaDirection::of(&of_stream), SendRecv);
    }

    #[test]
    fn nonsense_comes_back_without_harm() {
        for text in [
            "",
            "\n\n",
            "o=",
            "o=a b",
            "m=",
            "m=audio",
            "o=- 1 18446744073709551615 IN\n",
            "a=sendonly",
        ] {
            let _ = MediaDirection::of(text);
            let _ = held(&resumed(text));
        }
        assert_eq!(version("o=- 1 18446744073709551615 IN\r\n"), Some(u64::MAX));
    }
}
