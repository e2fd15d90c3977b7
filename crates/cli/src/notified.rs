//! What `sipora subscribe` prints of a NOTIFY: text for people, one JSON object for programs, or its body alone.

use std::io::{self, Write};

use serde::Serialize;
use sipora_session_core::{Basic, MessageSummary, Notification, Presence};

use crate::output::printable;

/// Is what a NOTIFY told. As JSON it always has the same keys; what does not apply is null.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Notified {
    /// The state of the subscription, as in Subscription-State.
    state: String,
    /// Seconds that are left of it.
    expires: Option<u32>,
    /// Why it is over.
    reason: Option<String>,
    /// Seconds after which to subscribe again.
    retry_after: Option<u32>,
    /// Notifications before this one that were lost, because they came faster than they were printed.
    missed: u64,
    content_type: Option<String>,
    body: Option<String>,
    presence: Option<PresenceRow>,
    message_summary: Option<SummaryRow>,
}

#[derive(Debug, Serialize)]
struct PresenceRow {
    entity: String,
    /// Open where any tuple is.
    status: Option<&'static str>,
    notes: Vec<String>,
    tuples: Vec<TupleRow>,
}

#[derive(Debug, Serialize)]
struct TupleRow {
    id: String,
    status: Option<&'static str>,
    contact: Option<String>,
    priority: Option<f32>,
    notes: Vec<String>,
    timestamp: Option<String>,
}

#[derive(Debug, Serialize)]
struct SummaryRow {
    waiting: bool,
    account: Option<String>,
    counts: Vec<CountRow>,
}

#[derive(Debug, Serialize)]
struct CountRow {
    class: String,
    new: u32,
    old: u32,
    new_urgent: Option<u32>,
    old_urgent: Option<u32>,
}

impl Notified {
    /// Reads a notification. A body that is not what it claims to be stays text.
    pub(crate) fn new(notification: &Notification) -> Notified {
        let headers = notification.request().headers();
        let state = headers.subscription_state().ok().flatten();
        let state = state.as_ref();
        let body = notification.body();
        Notified {
            state: state.map_or_else(String::new, |state| state.text().to_owned()),
            expires: state.and_then(|state| state.expires()),
            reason: state.and_then(|state| state.reason().map(str::to_owned)),
            retry_after: state.and_then(|state| state.retry_after()),
            missed: notification.missed(),
            content_type: notification.content_type(),
            body: (!body.is_empty()).then(|| String::from_utf8_lossy(body).into_owned()),
            presence: notification
                .presence()
                .and_then(Result::ok)
                .map(PresenceRow::from),
            message_summary: notification
                .message_summary()
                .and_then(Result::ok)
                .map(SummaryRow::from),
        }
    }

    /// Writes the state on the first line, and what is told on further ones.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", printable(&self.title()))?;
        if let Some(presence) = &self.presence {
            return presence.write(out);
        }
        if let Some(summary) = &self.message_summary {
            return summary.write(out);
        }
        let Some(body) = &self.body else {
            return Ok(());
        };
        if let Some(content_type) = &self.content_type {
            writeln!(out, "  {}", printable(content_type))?;
        }
        for line in body.lines() {
            writeln!(out, "  {}", printable(line))?;
        }
        Ok(())
    }

    fn title(&self) -> String {
        let mut title = self.state.clone();
        if let Some(seconds) = self.expires {
            title.push_str(&format!(" for {seconds} s"));
        }
        if let Some(reason) = &self.reason {
            title.push_str(&format!(": {reason}"));
        }
        if let Some(seconds) = self.retry_after {
            title.push_str(&format!(", again after {seconds} s"));
        }
        match self.missed {
            0 => {}
            missed => title.push_str(&format!(" ({missed} before it were lost)")),
        }
        title
    }
}

impl PresenceRow {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let status = self.status.unwrap_or("there, no more is told");
        let mut line = format!("{} is {status}", self.entity);
        append_notes(&mut line, &self.notes);
        writeln!(out, "  {}", printable(&line))?;
        for tuple in &self.tuples {
            let mut line = tuple.id.clone();
            if let Some(status) = tuple.status {
                line.push_str(&format!(" {status}"));
            }
            if let Some(contact) = &tuple.contact {
                line.push_str(&format!(" at {contact}"));
            }
            if let Some(priority) = tuple.priority {
                line.push_str(&format!(", priority {priority}"));
            }
            if let Some(timestamp) = &tuple.timestamp {
                line.push_str(&format!(", since {timestamp}"));
            }
            append_notes(&mut line, &tuple.notes);
            writeln!(out, "    {}", printable(&line))?;
        }
        Ok(())
    }
}

impl SummaryRow {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = match self.waiting {
            true => "messages wait".to_owned(),
            false => "no messages wait".to_owned(),
        };
        if let Some(account) = &self.account {
            line.push_str(&format!(" for {account}"));
        }
        writeln!(out, "  {}", printable(&line))?;
        for count in &self.counts {
            let mut line = format!("{}: {} new, {} old", count.class, count.new, count.old);
            if let (Some(new), Some(old)) = (count.new_urgent, count.old_urgent) {
                line.push_str(&format!(" (urgent: {new} new, {old} old)"));
            }
            writeln!(out, "    {}", printable(&line))?;
        }
        Ok(())
    }
}

fn append_notes(line: &mut String, notes: &[String]) {
    for note in notes {
        line.push_str(&format!(", \"{note}\""));
    }
}

impl From<Presence> for PresenceRow {
    fn from(presence: Presence) -> PresenceRow {
        PresenceRow {
            status: presence.basic().and_then(word),
            entity: presence.entity,
            notes: presence.notes,
            tuples: presence
                .tuples
                .into_iter()
                .map(|tuple| TupleRow {
                    id: tuple.id,
                    status: tuple.basic.and_then(word),
                    contact: tuple.contact,
                    // One that is no number between 0 and 1 says nothing, and is no JSON either.
                    priority: tuple
                        .priority
                        .filter(|priority| (0.0..=1.0).contains(priority)),
                    notes: tuple.notes,
                    timestamp: tuple.timestamp,
                })
                .collect(),
        }
    }
}

impl From<MessageSummary> for SummaryRow {
    fn from(summary: MessageSummary) -> SummaryRow {
        SummaryRow {
            waiting: summary.waiting,
            account: summary.account,
            counts: summary
                .counts
                .into_iter()
                .map(|count| CountRow {
                    class: count.class,
                    new: count.new,
                    old: count.old,
                    new_urgent: count.urgent.map(|(new, _)| new),
                    old_urgent: count.urgent.map(|(_, old)| old),
                })
                .collect(),
        }
    }
}

fn word(basic: Basic) -> Option<&'static str> {
    match basic {
        Basic::Open => Some("open"),
        Basic::Closed => Some("closed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(notified: &Notified) -> String {
        let mut out = Vec::new();
        notified.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn presence(tuples: &str) -> PresenceRow {
        let document = format!(
            "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:bob@a.example\">{tuples}</presence>"
        );
        Presence::parse(document.as_bytes()).unwrap().into()
    }

    #[test]
    fn presence_is_told_in_words() {
        let notified = Notified {
            state: "active".to_owned(),
            expires: Some(60),
            presence: Some(presence(
                "<tuple id='phone'><status><basic>open</basic></status>\
                 <contact priority='0.8'>sip:bob@192.0.2.4</contact><note>at lunch</note></tuple>\
                 <note>back at two</note>",
            )),
            ..Notified::default()
        };
        let expected = "active for 60 s\n  sip:bob@a.example is open, \"back at two\"\n    \
             phone open at sip:bob@192.0.2.4, priority 0.8, \"at lunch\"\n";
        assert_eq!(written(&notified), expected);
    }

    #[test]
    fn a_mailbox_is_told_in_words() {
        let body =
            b"Messages-Waiting: yes\r\nMessage-Account: sip:a@b\r\nVoice-Message: 2/8 (0/2)\r\n";
        let notified = Notified {
            state: "active".to_owned(),
            message_summary: Some(MessageSummary::parse(body).unwrap().into()),
            ..Notified::default()
        };
        let expected = "active\n  messages wait for sip:a@b\n    \
             voice-message: 2 new, 8 old (urgent: 0 new, 2 old)\n";
        assert_eq!(written(&notified), expected);
    }

    #[test]
    fn the_end_of_a_subscription_says_why_and_what_was_lost() {
        let notified = Notified {
            state: "terminated".to_owned(),
            reason: Some("probation".to_owned()),
            retry_after: Some(30),
            missed: 2,
            ..Notified::default()
        };
        assert_eq!(
            written(&notified),
            "terminated: probation, again after 30 s (2 before it were lost)\n"
        );
    }

    #[test]
    fn escape_sequences_of_a_peer_do_not_reach_the_terminal() {
        let notified = Notified {
            state: "active".to_owned(),
            reason: Some("\u{1b}[2J".to_owned()),
            content_type: Some("text/plain".to_owned()),
            body: Some("one\u{1b}[2J\r\ntwo".to_owned()),
            ..Notified::default()
        };
        let written = written(&notified);
        assert!(!written.contains('\u{1b}'), "{written:?}");
        assert!(written.ends_with("\n  two\n"), "{written:?}");
    }

    #[test]
    fn a_priority_that_is_none_is_left_out() {
        for priority in ["NaN", "inf", "7", "much"] {
            let tuple =
                format!("<tuple id='a'><contact priority='{priority}'>sip:b@c</contact></tuple>");
            assert_eq!(presence(&tuple).tuples[0].priority, None, "{priority}");
        }
    }
}
