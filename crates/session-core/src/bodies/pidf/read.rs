//! Reading a presence document.

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{NamespaceResolver, ResolveResult};
use quick_xml::{NsReader, XmlVersion};

use super::extension::Recorder;
use super::{Basic, NAMESPACE, Presence, Tuple};
use crate::BodyError;

impl Presence {
    /// Reads a document. What stands in it in other namespaces is kept as an [`Extension`](super::Extension), but for what is
    /// not well-formed or of a namespace that nobody declared; nothing outside of it is ever fetched, and entities of its own
    /// making are refused.
    ///
    /// # Errors
    ///
    /// [`BodyError`] when it is no well-formed XML, is larger or deeper than a presence document is, its root is no
    /// `presence` of PIDF's namespace with an `entity`, or a `basic` is neither open nor closed.
    pub fn parse(body: &[u8]) -> Result<Self, BodyError> {
        if body.len() > MAX_BYTES {
            return Err(wrong("too large"));
        }
        let text = std::str::from_utf8(body).map_err(|_| wrong("no UTF-8"))?;
        let mut reader = NsReader::from_str(text.trim_start_matches('\u{feff}'));
        reader.config_mut().expand_empty_elements = true;
        let mut builder = Builder::default();
        loop {
            let (namespace, event) = reader
                .read_resolved_event()
                .map_err(|error| wrong(error.to_string()))?;
            let kind = match namespace {
                ResolveResult::Bound(name) if name.as_ref() == NAMESPACE => Kind::Ours,
                ResolveResult::Bound(_) => Kind::Other,
                _ => Kind::Unbound,
            };
            match event {
                Event::Start(start) => builder.start(&start, kind, reader.resolver())?,
                Event::End(_) => builder.end()?,
                Event::Text(text) => builder.text(&text.xml10_content()),
                Event::CData(data) => builder.text(&data.xml10_content()),
                Event::GeneralRef(reference) => {
                    let escaped = format!("&{};", &*reference);
                    let text = quick_xml::escape::unescape(&escaped);
                    builder.text(&text.map_err(|error| wrong(error.to_string()))?);
                }
                Event::DocType(_) => return Err(wrong("a document type has no place here")),
                Event::Eof => return builder.finish(),
                _ => {}
            }
        }
    }
}

/// The namespace of an element.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ours,
    Other,
    Unbound,
}

/// Puts a document together. An element that is not understood hides what is within it.
#[derive(Default)]
struct Builder {
    presence: Option<Presence>,
    /// The elements that are open: their names, empty for those that are not understood.
    path: Vec<&'static str>,
    tuple: Tuple,
    text: String,
    is_over: bool,
    /// The element of another namespace that is open.
    recorder: Option<Recorder>,
    /// Bytes of those that are over.
    recorded: usize,
}

impl Builder {
    fn start(
        &mut self,
        start: &BytesStart<'_>,
        kind: Kind,
        resolver: &NamespaceResolver,
    ) -> Result<(), BodyError> {
        self.text.clear();
        let local = start.local_name();
        let name = NAMES
            .iter()
            .find(|(name, parent)| *name == local.as_ref() && self.path.last() == parent.as_ref())
            .filter(|_| kind == Kind::Ours)
            .map_or("", |(name, _)| *name);
        if self.path.is_empty() {
            if name != "presence" || self.is_over {
                return Err(wrong("the root is no PIDF presence"));
            }
            self.presence = Some(Presence {
                entity: attribute(start, "entity")?.ok_or_else(|| wrong("no entity"))?,
                tuples: Vec::new(),
                notes: Vec::new(),
                extensions: Vec::new(),
            });
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(wrong("too deep"));
        }
        self.record(start, kind, resolver)?;
        match name {
            "tuple" => {
                self.tuple = Tuple {
                    id: attribute(start, "id")?.ok_or_else(|| wrong("a tuple without id"))?,
                    ..Tuple::default()
                }
            }
            "contact" => {
                let priority = attribute(start, "priority")?;
                self.tuple.priority = priority.and_then(|text| text.trim().parse().ok());
            }
            _ => {}
        }
        self.path.push(name);
        Ok(())
    }

    /// Takes down what is of another namespace, where such may stand.
    fn record(
        &mut self,
        start: &BytesStart<'_>,
        kind: Kind,
        resolver: &NamespaceResolver,
    ) -> Result<(), BodyError> {
        let has_place = matches!(self.path.last(), Some(&("presence" | "tuple" | "status")));
        match &mut self.recorder {
            Some(recorder) => recorder.start(start, resolver),
            None if kind == Kind::Other && has_place => {
                self.recorder = Some(Recorder::begin(start, resolver));
            }
            None => {}
        }
        // Each may repeat a namespace that the document has named once.
        let open = self.recorder.as_ref().map_or(0, Recorder::bytes);
        match self.recorded + open > MAX_BYTES {
            true => Err(wrong("too large")),
            false => Ok(()),
        }
    }

    fn text(&mut self, text: &str) {
        match &mut self.recorder {
            Some(recorder) => recorder.text(text),
            None => self.text.push_str(text),
        }
    }

    fn recorded(&mut self) {
        let is_whole = self.recorder.as_mut().is_some_and(Recorder::end);
        let Some(recorder) = self.recorder.take_if(|_| is_whole) else {
            return;
        };
        self.recorded += recorder.bytes();
        let place = match self.path.last() {
            Some(&"status") => Some(&mut self.tuple.status_extensions),
            Some(&"tuple") => Some(&mut self.tuple.extensions),
            _ => self.presence.as_mut().map(|one| &mut one.extensions),
        };
        if let (Some(place), Some(extension)) = (place, recorder.finish()) {
            place.push(extension);
        }
    }

    fn end(&mut self) -> Result<(), BodyError> {
        let text = std::mem::take(&mut self.text);
        let text = text.trim();
        let name = self.path.pop().unwrap_or_default();
        self.recorded();
        let Some(presence) = &mut self.presence else {
            return Ok(());
        };
        match (self.path.last().copied(), name) {
            (None, _) => self.is_over = true,
            (Some("presence"), "tuple") => presence.tuples.push(std::mem::take(&mut self.tuple)),
            (Some("presence"), "note") => presence.notes.push(text.to_owned()),
            (Some("tuple"), "note") => self.tuple.notes.push(text.to_owned()),
            (Some("tuple"), "contact") => self.tuple.contact = Some(text.to_owned()),
            (Some("tuple"), "timestamp") => self.tuple.timestamp = Some(text.to_owned()),
            (Some("status"), "basic") => {
                self.tuple.basic = match text {
                    "open" => Some(Basic::Open),
                    "closed" => Some(Basic::Closed),
                    _ => return Err(wrong("basic is neither open nor closed")),
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Presence, BodyError> {
        match self.presence {
            Some(presence) if self.is_over => Ok(presence),
            _ => Err(wrong("it ends too early")),
        }
    }
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Result<Option<String>, BodyError> {
    let found = start
        .try_get_attribute(name)
        .map_err(|error| wrong(error.to_string()))?;
    found
        .map(|attribute| {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            value
                .map(|value| value.into_owned())
                .map_err(|error| wrong(error.to_string()))
        })
        .transpose()
}

fn wrong(reason: impl Into<String>) -> BodyError {
    BodyError::new("PIDF", reason)
}

/// The elements that are understood, each with the one that it stands in.
const NAMES: &[(&str, Option<&str>)] = &[
    ("presence", None),
    ("tuple", Some("presence")),
    ("note", Some("presence")),
    ("status", Some("tuple")),
    ("contact", Some("tuple")),
    ("note", Some("tuple")),
    ("timestamp", Some("tuple")),
    ("basic", Some("status")),
];

/// Far more than a presence document has.
const MAX_BYTES: usize = 256 * 1024;

/// The same.
const MAX_DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Presence, BodyError> {
        Presence::parse(text.as_bytes())
    }

    #[test]
    fn the_example_of_rfc_3863_is_read() {
        let presence = parse(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <impp:presence xmlns:impp="urn:ietf:params:xml:ns:pidf" xmlns:local="urn:example-com:pidf-status-type"
                entity="pres:someone@example.com">
              <impp:tuple id="ub93s3">
                <impp:status><impp:basic>open</impp:basic><local:location><impp:basic>x</impp:basic></local:location></impp:status>
                <impp:contact priority="0.8">im:someone@mobilecarrier.net</impp:contact>
                <impp:note xml:lang="en">Don&apos;t Disturb &#x50;lease!</impp:note>
                <impp:timestamp>2001-10-27T16:49:29Z</impp:timestamp>
              </impp:tuple>
              <impp:tuple id="eg92n8"><impp:status><impp:basic>closed</impp:basic></impp:status></impp:tuple>
              <impp:note>I'll be in Tokyo next week</impp:note>
              <local:empty/>
            </impp:presence>"#,
        )
        .unwrap();
        assert_eq!(presence.entity, "pres:someone@example.com");
        assert_eq!(presence.tuples.len(), 2);
        let tuple = &presence.tuples[0];
        assert_eq!(tuple.basic, Some(Basic::Open));
        assert_eq!(tuple.priority, Some(0.8));
        assert_eq!(
            tuple.contact.as_deref(),
            Some("im:someone@mobilecarrier.net")
        );
        assert_eq!(tuple.notes, ["Don't Disturb Please!"]);
        assert_eq!(tuple.timestamp.as_deref(), Some("2001-10-27T16:49:29Z"));
        assert_eq!(presence.tuples[1].basic, Some(Basic::Closed));
        assert_eq!(presence.notes, ["I'll be in Tokyo next week"]);
        assert_eq!(presence.basic(), Some(Basic::Open));
    }

    #[test]
    fn what_is_no_presence_document_is_refused() {
        let deep = format!(
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'>{}",
            "<a>".repeat(100)
        );
        for text in [
            "",
            "hello",
            "<presence entity='e'/>",
            "<presence xmlns='urn:ietf:params:xml:ns:pidf'/>",
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'>",
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'></tuple>",
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'><tuple/></presence>",
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'/><presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'/>",
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'><tuple id='1'><status><basic>ajar</basic></status></tuple></presence>",
            "<!DOCTYPE p [<!ENTITY a 'b'>]><presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'/>",
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'><note>&a;</note></presence>",
            &deep,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Presence::parse(b"\xff\xfe").is_err());
        assert!(parse(&" ".repeat(MAX_BYTES + 1)).is_err());
    }

    #[test]
    fn a_document_without_tuples_tells_nothing() {
        let presence = parse("<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'/>").unwrap();
        assert_eq!(presence.basic(), None);
    }
}
