//! What waits in a mailbox (RFC 3842 §5.2).

use super::BodyError;

/// A body of type `application/simple-message-summary`.
///
/// ```
/// use sipora_session_core::MessageSummary;
///
/// let summary = MessageSummary::parse(b"Messages-Waiting: yes\r\nVoice-Message: 2/8 (0/2)\r\n")?;
/// assert!(summary.waiting);
/// assert_eq!(summary.class("voice-message").map(|count| (count.new, count.old)), Some((2, 8)));
/// # Ok::<(), sipora_session_core::BodyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageSummary {
    /// Whether any message waits.
    pub waiting: bool,
    /// The account that it is about.
    pub account: Option<String>,
    /// The counts, one for each class of messages.
    pub counts: Vec<MessageCount>,
}

/// How many messages of one class there are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MessageCount {
    /// The class, as in `voice-message`, in lower case (RFC 3458).
    pub class: String,
    /// New ones.
    pub new: u32,
    /// Old ones.
    pub old: u32,
    /// How many of the new ones, and of the old ones, are urgent, where that is told.
    pub urgent: Option<(u32, u32)>,
}

impl MessageSummary {
    /// Reads a body. Names are read without case; fields about single messages, after the empty line, are left out.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when it does not begin with `Messages-Waiting`, or a line before the empty one is no summary.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        let text = std::str::from_utf8(body).map_err(|_| wrong("no UTF-8"))?;
        let mut lines = text.lines().take_while(|line| !line.trim().is_empty());
        let first = lines.next().and_then(field);
        let (name, status) = first.ok_or_else(|| wrong("Messages-Waiting is missing"))?;
        let waiting = match status {
            _ if !name.eq_ignore_ascii_case("Messages-Waiting") => None,
            yes if yes.eq_ignore_ascii_case("yes") => Some(true),
            no if no.eq_ignore_ascii_case("no") => Some(false),
            _ => None,
        };
        let waiting = waiting.ok_or_else(|| wrong("Messages-Waiting is neither yes nor no"))?;
        let mut summary = MessageSummary {
            waiting,
            account: None,
            counts: Vec::new(),
        };
        for line in lines {
            let (name, value) = field(line).ok_or_else(|| wrong("a line without a colon"))?;
            if name.eq_ignore_ascii_case("Message-Account") {
                summary.account = Some(value.to_owned());
            } else {
                let count = MessageCount::read(name, value);
                summary
                    .counts
                    .push(count.ok_or_else(|| wrong("a line that counts nothing"))?);
            }
        }
        Ok(summary)
    }

    /// The count of one class, named in any case.
    pub fn class(&self, class: &str) -> Option<&MessageCount> {
        self.counts
            .iter()
            .find(|count| count.class.eq_ignore_ascii_case(class))
    }
}

impl MessageCount {
    fn read(class: &str, value: &str) -> Option<Self> {
        let (plain, urgent) = match value.split_once('(') {
            Some((plain, urgent)) => (plain, Some(pair(urgent.trim_end().strip_suffix(')')?)?)),
            None => (value, None),
        };
        let (new, old) = pair(plain)?;
        Some(Self {
            class: class.to_ascii_lowercase(),
            new,
            old,
            urgent,
        })
    }
}

fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim(), value.trim()))
}

fn pair(text: &str) -> Option<(u32, u32)> {
    let (one, other) = text.split_once('/')?;
    Some((one.trim().parse().ok()?, other.trim().parse().ok()?))
}

fn wrong(reason: &str) -> BodyError {
    BodyError::new("message summary", reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_3842_is_read() {
        let body = "Messages-Waiting: yes\r\nMessage-Account: sip:alice@vmail.example.com\r\n\
             Voice-Message: 2/8 (0/2)\r\nfax-message : 1/0\r\n\r\nTo: <alice@atlanta.example.com>\r\nSubject: x\r\n";
        let summary = MessageSummary::parse(body.as_bytes()).unwrap();
        assert!(summary.waiting);
        assert_eq!(
            summary.account.as_deref(),
            Some("sip:alice@vmail.example.com")
        );
        assert_eq!(summary.class("Voice-message").unwrap().urgent, Some((0, 2)));
        assert_eq!(summary.class("fax-message").unwrap().new, 1);
        assert_eq!(summary.counts.len(), 2);
        assert!(
            !MessageSummary::parse(b"messages-waiting: NO")
                .unwrap()
                .waiting
        );
    }

    #[test]
    fn what_is_no_summary_is_refused() {
        for body in [
            "",
            "Voice-Message: 1/2",
            "Messages-Waiting: perhaps",
            "Messages-Waiting: yes\r\nVoice-Message: many",
            "Messages-Waiting: yes\r\nVoice-Message: 1/99999999999",
            "Messages-Waiting: yes\r\nVoice-Message: 1/2 (3",
            "Messages-Waiting: yes\r\nnonsense",
        ] {
            assert!(MessageSummary::parse(body.as_bytes()).is_err(), "{body:?}");
        }
        assert!(MessageSummary::parse(b"\xff").is_err());
    }
}
