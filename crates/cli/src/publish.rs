//! `sipora publish`: publishes event state, keeps it published, and removes it.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::time::SystemTime;

use clap::{Args, ValueEnum};
use sipora_session_core::message::{HeaderName, Method, Uri};
use sipora_session_core::{
    Basic, Error, Presence, PublicationHandle, PublicationState, SipClient, SipResponse, Tuple,
};

use crate::arguments::{ClientArguments, PUBLISHER_EXIT_STATUSES, token};
use crate::client::{self, Client};
use crate::exit::{Failure, chain};
use crate::input;
use crate::output::{Report, printable};
use crate::signals::{GOODBYE, Signals};
use crate::time::time_of_day;

#[derive(Debug, Args)]
#[command(after_help = PUBLISHER_EXIT_STATUSES)]
pub(crate) struct PublishArguments {
    /// Whose state it is, as in sip:alice@example.com
    #[arg(value_name = "URI")]
    uri: String,

    /// Presence: whether URI takes messages and calls
    #[arg(long, value_name = "STATUS", conflicts_with = "body_file")]
    status: Option<Status>,

    /// Presence: a remark for people
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    note: Option<String>,

    /// Publish what stands in this file, in place of --status and --note; - is standard input
    #[arg(long, value_name = "FILE")]
    body_file: Option<String>,

    /// What --body-file is
    #[arg(
        long,
        value_name = "TYPE",
        default_value = Presence::CONTENT_TYPE,
        value_parser = media_type,
        requires = "body_file",
        conflicts_with_all = ["status", "note"],
    )]
    content_type: String,

    /// The event that it is state of; --status and --note are presence
    #[arg(long, value_name = "NAME", default_value = PRESENCE, value_parser = token)]
    event: String,

    /// Seconds to ask for; the server decides
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 3600,
        value_parser = clap::value_parser!(u32).range(1..),
    )]
    expires: u32,

    /// Publish and end: the state stays until it expires, or --etag is used. Else it is refreshed until Ctrl-C or SIGTERM,
    /// and then removed
    #[arg(long)]
    once: bool,

    /// Go on with what an earlier run with --once published, by the entity tag that it printed: put something else in its
    /// place or, without anything to publish, refresh it; then end
    #[arg(long, value_name = "TAG", value_parser = token)]
    etag: Option<String>,

    /// Remove what --etag names
    #[arg(
        long,
        requires = "etag",
        conflicts_with_all = ["status", "note", "body_file", "expires"],
    )]
    remove: bool,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

/// Is what a presence document says of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Status {
    Open,
    Closed,
}

/// What is published.
#[derive(Debug, PartialEq, Eq)]
struct Document {
    content_type: String,
    body: String,
}

/// Runs `sipora publish`.
pub(crate) async fn run(arguments: PublishArguments) -> Result<(), Failure> {
    let target = client::parse_uri("URI", &arguments.uri)?;
    let target = client::with_transport(target, arguments.client.transport)?;
    let document = document(&arguments, &target)?;
    // Before anything is published: a signal from here on means to remove it.
    let mut signals = Signals::listen()?;
    let client = Client::start(&arguments.client, target.clone(), Some(&target)).await?;
    let publisher = Publisher {
        arguments: &arguments,
        target: &target,
        client: &client,
    };
    let signals = &mut signals;
    let result = match (&arguments.etag, document) {
        (Some(tag), document) => publisher.go_on(tag, document, signals).await,
        (None, Some(document)) if arguments.once => publisher.once(&document, signals).await,
        (None, Some(document)) => publisher.keep(&document, signals).await,
        (None, None) => Err(nothing_to_publish()),
    };
    client.close().await;
    result
}

/// Gives what the arguments say is to be published; with --etag, that may be nothing.
fn document(arguments: &PublishArguments, target: &Uri) -> Result<Option<Document>, Failure> {
    let PublishArguments { status, note, .. } = arguments;
    if let Some(path) = &arguments.body_file {
        let body = input::file(path)?;
        // Without a body a PUBLISH would be a refresh (RFC 3903 §4.1).
        if body.trim().is_empty() {
            return Err(Failure::Local(format!(
                "--body-file {path} is empty: to take back what is published, end this program or give --remove"
            )));
        }
        let content_type = arguments.content_type.clone();
        return Ok(Some(Document { content_type, body }));
    }
    if status.is_none() && note.is_none() {
        return match arguments.etag {
            Some(_) => Ok(None),
            None => Err(nothing_to_publish()),
        };
    }
    if arguments.event != PRESENCE {
        let event = &arguments.event;
        return Err(Failure::Local(format!(
            "--status and --note are presence: for --event {event} give --body-file"
        )));
    }
    Ok(Some(Document {
        content_type: Presence::CONTENT_TYPE.to_owned(),
        body: presence(target, *status, note.as_deref())?.to_xml(),
    }))
}

/// Makes a presence document (RFC 3863). With a status, the remark is about that; else about the presentity.
fn presence(target: &Uri, status: Option<Status>, note: Option<&str>) -> Result<Presence, Failure> {
    let user = target.user_decoded();
    let entity = Uri::sip(user.as_deref(), target.host_str(), None)
        .map_err(|error| Failure::Local(error.to_string()))?;
    let presence = Presence::new(entity.as_str());
    let Some(status) = status else {
        return Ok(presence.with_note(note.unwrap_or_default()));
    };
    let basic = match status {
        Status::Open => Basic::Open,
        Status::Closed => Basic::Closed,
    };
    // Another program of the same user has a tuple of another name, so that a server can tell theirs apart.
    let id = RandomState::new().hash_one(std::process::id()) as u32;
    let mut tuple = Tuple::new(format!("sipora-{id:08x}"))
        .with_basic(basic)
        .with_contact(entity.as_str());
    if let Some(note) = note {
        tuple = tuple.with_note(note);
    }
    Ok(presence.with_tuple(tuple))
}

fn nothing_to_publish() -> Failure {
    Failure::Local("what is to be published? give --status, --note or --body-file".to_owned())
}

/// Reads a media type, with or without parameters.
fn media_type(text: &str) -> Result<String, String> {
    let (name, _) = text.split_once(';').unwrap_or((text, ""));
    let parts = name.trim_end().split_once('/');
    match parts.map(|(kind, subtype)| (token(kind), token(subtype))) {
        Some((Ok(_), Ok(_))) => Ok(text.to_owned()),
        _ => Err(format!(
            "expected a type such as {}",
            Presence::CONTENT_TYPE
        )),
    }
}

struct Publisher<'a> {
    arguments: &'a PublishArguments,
    target: &'a Uri,
    client: &'a Client,
}

impl Publisher<'_> {
    /// Publishes, and leaves it published until it expires.
    async fn once(&self, document: &Document, signals: &mut Signals) -> Result<(), Failure> {
        let report = match signals.or(self.publish(document)).await {
            Ok(Ok(publication)) => published(&publication),
            Ok(Err(error)) => self.client.failed(&error),
            Err(stopped) => Report::failure(stopped, None),
        };
        self.print(report)
    }

    /// Publishes, keeps it published until a signal comes, and removes it.
    async fn keep(&self, document: &Document, signals: &mut Signals) -> Result<(), Failure> {
        let publication = match signals.or(self.publish(document)).await {
            Ok(Ok(publication)) => publication,
            Ok(Err(error)) => return self.print(self.client.failed(&error)),
            Err(stopped) => return self.print(Report::failure(stopped, None)),
        };
        self.print(published(&publication))?;
        let mut states = publication.states();
        let mut is_known = true;
        loop {
            let state = tokio::select! {
                state = states.next() => state,
                _ = signals.next() => break,
            };
            match state {
                // The stream begins with the state that was just printed.
                Some(PublicationState::Published { .. }) if is_known => {}
                Some(state) => self.show(&state)?,
                None => return Err(Failure::NoAnswer("the publication ended".to_owned())),
            }
            is_known = false;
        }
        let removal = tokio::time::timeout(GOODBYE, publication.remove()).await;
        let problem = match removal {
            Ok(Ok(())) => return self.note(&self.removed()),
            Ok(Err(error)) if is_gone(&error) => {
                return self.note(&format!("already ended at the server: {}", self.target));
            }
            Ok(Err(error)) => self.client.failure(&error),
            Err(_) => Failure::NoAnswer(format!("{}: no final answer", self.target)),
        };
        Err(problem.in_context("not removed, what is published expires by itself"))
    }

    async fn publish(&self, document: &Document) -> Result<PublicationHandle, Error> {
        let PublishArguments { event, expires, .. } = self.arguments;
        let Document { content_type, body } = document;
        let coordinator = &self.client.coordinator;
        coordinator
            .publish(self.target.as_str(), event, content_type, body, *expires)
            .await
    }

    /// Sends one PUBLISH about what an earlier run published: to modify, to refresh or to remove it (RFC 3903 §4.1).
    async fn go_on(
        &self,
        tag: &str,
        document: Option<Document>,
        signals: &mut Signals,
    ) -> Result<(), Failure> {
        let PublishArguments { event, remove, .. } = self.arguments;
        let coordinator = &self.client.coordinator;
        let expires = if *remove { 0 } else { self.arguments.expires };
        let mut request = coordinator
            .request(Method::Publish, self.target)
            .header(HeaderName::Event, event)
            .header(HeaderName::SipIfMatch, tag)
            .expires(expires);
        if let Some(Document { content_type, body }) = document {
            request = request.body(&content_type, body);
        }
        let request = request
            .build()
            .map_err(|error| Failure::Local(chain(&error)))?;
        let timeout = self.arguments.client.timeout;
        let answer = coordinator.send_raw_request(request, timeout);
        let report = match signals.or(answer).await {
            Ok(Ok(response)) if response.status().as_u16() == GONE => {
                let gone = self.client.refusal(&response).in_context(
                    "nothing is published under this entity tag, publish anew without --etag",
                );
                Report::failure(gone, Some(&response))
            }
            Ok(Ok(response)) => {
                let mut report = self.client.answered(&response);
                if report.is_success() {
                    (report.expires, report.entity_tag) = granted(&response);
                }
                report
            }
            Ok(Err(error)) => self.client.failed(&error),
            Err(stopped) => Report::failure(stopped, None),
        };
        self.print(report)
    }

    /// Prints a report; without --json, a failure has its line on standard error and nothing here.
    fn print(&self, report: Report) -> Result<(), Failure> {
        let PublishArguments { event, remove, .. } = self.arguments;
        report.print(self.arguments.client.json, |report, out| {
            if !report.is_success() {
                return Ok(());
            }
            if *remove {
                return writeln!(out, "{}", self.removed());
            }
            write!(out, "published {event} of {}", self.target)?;
            if let Some(seconds) = report.expires {
                write!(out, " for {seconds} s")?;
            }
            if let Some(tag) = &report.entity_tag {
                write!(out, ", entity tag {}", printable(tag))?;
            }
            writeln!(out)
        })
    }

    fn removed(&self) -> String {
        format!("removed {} of {}", self.arguments.event, self.target)
    }

    /// Tells what became of state that is kept published.
    fn show(&self, state: &PublicationState) -> Result<(), Failure> {
        match state {
            PublicationState::Published {
                expires,
                refresh_in,
            } => {
                let refresh_in = refresh_in.as_secs();
                self.note(&format!(
                    "published for {expires} s, refresh in {refresh_in} s"
                ))
            }
            PublicationState::Retrying {
                error,
                retry_in,
                expires_in,
            } => {
                let state = match expires_in.is_zero() {
                    true => "expired",
                    false => "still published",
                };
                let retry_in = retry_in.as_secs();
                self.note(&format!("{state}, next try in {retry_in} s: {error}"))
            }
            PublicationState::Failed(error) => Err(self.client.failure(error)),
            _ => Ok(()),
        }
    }

    /// Says something beside the report, and when; with --json that goes to standard error.
    fn note(&self, text: &str) -> Result<(), Failure> {
        let text = format!("{} {text}", time_of_day(SystemTime::now()));
        if self.arguments.client.json {
            writeln!(io::stderr(), "{text}")?;
        } else {
            writeln!(io::stdout(), "{text}")?;
        }
        Ok(())
    }
}

fn published(publication: &PublicationHandle) -> Report {
    let mut report = Report::answer(&publication.response());
    report.expires = Some(publication.granted());
    report.entity_tag = publication.entity_tag();
    report
}

/// Reads what a 2xx grants: for how many seconds, under which entity tag.
fn granted(response: &SipResponse) -> (Option<u32>, Option<String>) {
    let headers = response.message().headers();
    let tag = headers.sip_etag().ok().flatten().map(str::to_owned);
    (headers.expires().ok().flatten(), tag)
}

const PRESENCE: &str = "presence";

/// Tells whether a refusal to remove says that nothing is there to be removed: the state (412) or, at a server that was
/// started again without presence, all of it (405).
fn is_gone(error: &Error) -> bool {
    let status = error.response().map(|response| response.status().as_u16());
    matches!(status, Some(GONE | 405))
}

/// 412 (Conditional Request Failed), RFC 3903 §11.2.1.
const GONE: u16 = 412;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn arguments(flags: &[&str]) -> Result<PublishArguments, clap::Error> {
        let words = ["sipora", "publish", "sip:alice@example.com"]
            .iter()
            .chain(flags);
        match Arguments::try_parse_from(words)?.command {
            Command::Publish(arguments) => Ok(arguments),
            other => panic!("{other:?}"),
        }
    }

    fn document(flags: &[&str]) -> Result<Option<Document>, Failure> {
        let target = Uri::parse("sip:alice@example.com").unwrap();
        super::document(&arguments(flags).unwrap(), &target)
    }

    #[test]
    fn what_excludes_each_other_is_wrong_usage() {
        for flags in [
            ["--status", "away"].as_slice(),
            &["--status", "open", "--body-file", "f"],
            &["--note", "hello", "--body-file", "f"],
            &["--status", "open", "--content-type", "text/plain"],
            &["--body-file", "f", "--content-type", "text"],
            &["--body-file", "f", "--content-type", "text/"],
            &["--body-file", "f", "--content-type", "text/plain/x;a=b"],
            &["--remove"],
            &["--remove", "--etag", "t", "--status", "open"],
            &["--remove", "--etag", "t", "--body-file", "f"],
            &["--remove", "--etag", "t", "--expires", "60"],
            &["--status", "open", "--expires", "0"],
        ] {
            assert!(arguments(flags).is_err(), "{flags:?}");
        }
    }

    #[test]
    fn there_is_something_to_publish_unless_an_entity_tag_says_what() {
        for flags in [[].as_slice(), &["--once"], &["--event", "x"]] {
            let failure = document(flags).unwrap_err();
            assert_eq!(failure.status(), 2, "{flags:?}");
            assert!(failure.to_string().contains("--status"), "{failure}");
        }
        assert_eq!(document(&["--etag", "t"]), Ok(None));
        assert_eq!(document(&["--etag", "t", "--remove"]), Ok(None));
    }

    #[test]
    fn a_presence_document_says_what_the_flags_say() {
        let presence = |flags: &[&str]| {
            let document = document(flags).unwrap().unwrap();
            assert_eq!(document.content_type, "application/pidf+xml");
            Presence::parse(document.body.as_bytes()).unwrap()
        };
        let one = presence(&["--status", "closed", "--note", "a < b"]);
        assert_eq!(one.entity, "sip:alice@example.com");
        assert_eq!(one.basic(), Some(Basic::Closed));
        assert_eq!(one.tuples[0].notes, ["a < b"]);
        assert!(one.notes.is_empty());
        let other = presence(&["--status", "closed"]);
        assert_ne!(one.tuples[0].id, other.tuples[0].id);
        let remark = presence(&["--note", "a & b"]);
        assert!(remark.tuples.is_empty());
        assert_eq!(remark.notes, ["a & b"]);
    }

    #[test]
    fn the_presentity_is_a_user_not_an_address() {
        let target = Uri::parse("sip:al%20ice@example.com:5070;transport=tcp").unwrap();
        let presence = presence(&target, Some(Status::Open), None).unwrap();
        assert_eq!(presence.entity, "sip:al%20ice@example.com");
    }

    #[test]
    fn presence_is_published_in_its_own_event_alone() {
        let failure = document(&["--event", "dialog", "--status", "open"]).unwrap_err();
        assert_eq!(failure.status(), 2);
        assert!(failure.to_string().contains("--body-file"), "{failure}");
    }
}
