//! Presence documents (RFC 3863).

mod extension;
mod read;
mod write;

pub use extension::Extension;

/// A body of type `application/pidf+xml`: where somebody can be reached, and how.
///
/// ```
/// use sipora_session_core::{Basic, Presence};
///
/// let document = r#"<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="pres:bob@example.com">
///   <tuple id="phone"><status><basic>open</basic></status><contact priority="0.8">sip:bob@192.0.2.4</contact></tuple>
/// </presence>"#;
/// let presence = Presence::parse(document.as_bytes())?;
/// assert_eq!(presence.entity, "pres:bob@example.com");
/// assert_eq!(presence.basic(), Some(Basic::Open));
/// assert_eq!(presence.tuples[0].contact.as_deref(), Some("sip:bob@192.0.2.4"));
/// # Ok::<(), sipora_session_core::BodyError>(())
/// ```
///
/// One to publish or to tell:
///
/// ```
/// use sipora_session_core::{Basic, Presence, Tuple};
///
/// let phone = Tuple::new("phone").with_basic(Basic::Open).with_contact("sip:bob@192.0.2.4").with_priority(0.8);
/// let presence = Presence::new("pres:bob@example.com").with_tuple(phone).with_note("back at 5 & happy");
/// assert_eq!(
///     presence.to_xml(),
///     "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
///      <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"pres:bob@example.com\">\
///      <tuple id=\"phone\"><status><basic>open</basic></status>\
///      <contact priority=\"0.8\">sip:bob@192.0.2.4</contact></tuple>\
///      <note>back at 5 &amp; happy</note></presence>"
/// );
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Presence {
    /// Who.
    pub entity: String,
    /// The ways in which the presentity can be reached.
    pub tuples: Vec<Tuple>,
    /// Remarks about the whole.
    pub notes: Vec<String>,
    /// What else is said of the whole, in other namespaces: persons and devices (RFC 4479).
    pub extensions: Vec<Extension>,
}

/// One way to reach somebody.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Tuple {
    /// Tells tuples of one document apart.
    pub id: String,
    /// Whether messages are accepted, where that is told.
    pub basic: Option<Basic>,
    /// The address.
    pub contact: Option<String>,
    /// The preference of the address, 0 to 1.
    pub priority: Option<f32>,
    /// Remarks.
    pub notes: Vec<String>,
    /// When the state was noted, as written (RFC 3339).
    pub timestamp: Option<String>,
    /// What else stands in the tuple, in other namespaces.
    pub extensions: Vec<Extension>,
    /// What else stands in its status, in other namespaces: activities, as older clients write them (RFC 4480).
    pub status_extensions: Vec<Extension>,
}

/// Whether a tuple accepts messages (RFC 3863 §4.1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Basic {
    /// `open`
    Open,
    /// `closed`
    Closed,
}

impl Presence {
    /// The media type of a document.
    pub const CONTENT_TYPE: &str = "application/pidf+xml";

    /// Begins a document about `entity`: the URI of a presentity, as in `pres:bob@example.com` or `sip:bob@example.com`.
    pub fn new(entity: impl Into<String>) -> Self {
        Self {
            entity: entity.into(),
            tuples: Vec::new(),
            notes: Vec::new(),
            extensions: Vec::new(),
        }
    }

    /// Adds a way in which the presentity can be reached.
    #[must_use]
    pub fn with_tuple(mut self, tuple: Tuple) -> Self {
        self.tuples.push(tuple);
        self
    }

    /// Adds a remark about the whole.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Whether any tuple is open: `None` where none tells.
    pub fn basic(&self) -> Option<Basic> {
        let mut told = self.tuples.iter().filter_map(|tuple| tuple.basic);
        let first = told.next()?;
        let is_open = first == Basic::Open || told.any(|basic| basic == Basic::Open);
        Some(if is_open { Basic::Open } else { Basic::Closed })
    }
}

impl Tuple {
    /// Begins a tuple that says nothing yet. `id` is one of its own within the document and stays the same from one to the
    /// next; RFC 3863 §4.4 wants an XML id: a letter or `_`, then letters, digits, `-`, `_` and `.`.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            ..Self::default()
        }
    }

    /// Says whether messages are accepted.
    #[must_use]
    pub fn with_basic(mut self, basic: Basic) -> Self {
        self.basic = Some(basic);
        self
    }

    /// Says where: a URI.
    #[must_use]
    pub fn with_contact(mut self, uri: impl Into<String>) -> Self {
        self.contact = Some(uri.into());
        self
    }

    /// Says how much the contact is preferred to those of other tuples, 0 to 1; RFC 3863 §4.1.5 has three decimals. Without a
    /// contact it is not written.
    #[must_use]
    pub fn with_priority(mut self, priority: f32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Adds a remark.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Says when the state was noted, as RFC 3339 writes it: `2001-10-27T16:49:29Z`.
    #[must_use]
    pub fn with_timestamp(mut self, timestamp: impl Into<String>) -> Self {
        self.timestamp = Some(timestamp.into());
        self
    }
}

impl Basic {
    /// The word as it stands in a document.
    pub fn as_str(self) -> &'static str {
        match self {
            Basic::Open => "open",
            Basic::Closed => "closed",
        }
    }
}

const NAMESPACE: &str = "urn:ietf:params:xml:ns:pidf";
