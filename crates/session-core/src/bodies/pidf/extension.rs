//! Elements of other namespaces in a presence document, kept and written again without being understood.

use std::fmt;

use quick_xml::XmlVersion;
use quick_xml::events::BytesStart;
use quick_xml::events::attributes::Attribute;
use quick_xml::name::{Namespace, NamespaceResolver, Prefix, ResolveResult};

use super::NAMESPACE;
use super::write::{attribute, escape};

/// An element of another namespace than PIDF's, as it stands in a [`Presence`](super::Presence), a
/// [`Tuple`](super::Tuple) or its status: `person` and `device` (RFC 4479), `activities` (RFC 4480) and whatever else.
///
/// It is kept whole, and displayed as XML that declares every namespace that its names are of: it means the same wherever
/// in a document it is put, whatever prefixes are used there. Comments and processing instructions are not part of it.
/// Prefixes that stand in texts and values alone are not known to be such, and lose their meaning.
///
/// ```
/// use sipora_session_core::Presence;
///
/// let document = r#"<presence xmlns="urn:ietf:params:xml:ns:pidf" xmlns:dm="urn:ietf:params:xml:ns:pidf:data-model"
///     xmlns:rpid="urn:ietf:params:xml:ns:pidf:rpid" entity="pres:bob@example.com">
///   <dm:person id="p1"><rpid:activities><rpid:away/></rpid:activities></dm:person></presence>"#;
/// let presence = Presence::parse(document.as_bytes())?;
/// let person = &presence.extensions[0];
/// assert_eq!((person.namespace(), person.name()), ("urn:ietf:params:xml:ns:pidf:data-model", "person"));
/// assert_eq!(person.id(), Some("p1"));
/// assert_eq!(
///     person.to_string(),
///     "<dm:person id=\"p1\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\">\
///      <rpid:activities xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\"><rpid:away/></rpid:activities></dm:person>"
/// );
/// # Ok::<(), sipora_session_core::BodyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    namespace: String,
    /// With its prefix.
    qualified: String,
    id: Option<String>,
    /// What follows `<`, the name and the `id`.
    rest: String,
}

impl Extension {
    /// Returns the namespace of the element.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the name of the element, without a prefix.
    pub fn name(&self) -> &str {
        let name = self.qualified.split_once(':');
        name.map_or(self.qualified.as_str(), |(_, name)| name)
    }

    /// Returns the attribute `id` of the element, which tells such elements of one document apart.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Gives the element another `id`.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    pub(super) fn write(&self, xml: &mut String) {
        xml.push('<');
        xml.push_str(&self.qualified);
        if let Some(id) = &self.id {
            attribute(xml, "id", id);
        }
        xml.push_str(&self.rest);
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut xml = String::new();
        self.write(&mut xml);
        formatter.write_str(&xml)
    }
}

/// Takes an element down while it is read. Each element declares what its names need and those around it have not declared:
/// the visibly used namespaces, as in exclusive canonical XML.
#[derive(Debug)]
pub(super) struct Recorder {
    extension: Extension,
    /// The elements that are open.
    open: Vec<String>,
    /// What is declared where the writing is: how deep, which prefix, which namespace.
    scope: Vec<(usize, String, String)>,
    /// The tag written last was that of an element which may turn out empty.
    is_at_start: bool,
    /// It cannot be written again: a name is none, or is of no namespace that was declared.
    is_spoiled: bool,
}

impl Recorder {
    pub(super) fn begin(start: &BytesStart<'_>, resolver: &NamespaceResolver) -> Self {
        let mut recorder = Self {
            extension: Extension {
                namespace: String::new(),
                qualified: String::new(),
                id: None,
                rest: String::new(),
            },
            open: Vec::new(),
            scope: vec![(0, String::new(), NAMESPACE.to_owned())],
            is_at_start: false,
            is_spoiled: false,
        };
        recorder.start(start, resolver);
        recorder
    }

    pub(super) fn bytes(&self) -> usize {
        self.extension.rest.len()
    }

    pub(super) fn start(&mut self, start: &BytesStart<'_>, resolver: &NamespaceResolver) {
        if self.try_start(start, resolver).is_none() {
            self.is_spoiled = true;
            self.open.push(String::new());
        }
    }

    fn try_start(&mut self, start: &BytesStart<'_>, resolver: &NamespaceResolver) -> Option<()> {
        let name = start.name();
        let qualified = checked(name.as_ref())?;
        self.is_at_start = true;
        let depth = self.open.len() + 1;
        let namespace = namespace(resolver, name.prefix(), true)?;
        if depth == 1 {
            self.extension.namespace.clone_from(&namespace);
            qualified.clone_into(&mut self.extension.qualified);
        } else {
            self.extension.rest.push('<');
            self.extension.rest.push_str(qualified);
        }
        self.declare(depth, name.prefix(), namespace);
        for one in start.attributes() {
            self.attribute(depth, &one.ok()?, resolver)?;
        }
        self.extension.rest.push('>');
        self.open.push(qualified.to_owned());
        Some(())
    }

    fn attribute(
        &mut self,
        depth: usize,
        one: &Attribute<'_>,
        resolver: &NamespaceResolver,
    ) -> Option<()> {
        if one.key.as_namespace_binding().is_some() {
            return Some(());
        }
        let name = checked(one.key.as_ref())?;
        let value = one.normalized_value(XmlVersion::Implicit1_0).ok()?;
        if depth == 1 && name == "id" {
            self.extension.id = Some(value.into_owned());
            return Some(());
        }
        if let Some(prefix) = one.key.prefix() {
            let namespace = namespace(resolver, Some(prefix), false)?;
            self.declare(depth, Some(prefix), namespace);
        }
        attribute(&mut self.extension.rest, name, &value);
        Some(())
    }

    fn declare(&mut self, depth: usize, prefix: Option<Prefix<'_>>, namespace: String) {
        let prefix = prefix.map_or(String::new(), |prefix| prefix.into_inner().to_owned());
        let mut declared = self.scope.iter().rev();
        let known = declared.find(|(_, known, _)| *known == prefix);
        // XML is declared everywhere.
        if known.is_some_and(|(_, _, known)| *known == namespace) || prefix == "xml" {
            return;
        }
        let name = match prefix.is_empty() {
            true => "xmlns".to_owned(),
            false => format!("xmlns:{prefix}"),
        };
        attribute(&mut self.extension.rest, &name, &namespace);
        self.scope.push((depth, prefix, namespace));
    }

    pub(super) fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.is_at_start = false;
            escape(&mut self.extension.rest, text);
        }
    }

    /// Ends the innermost element; says whether it was the outermost too.
    pub(super) fn end(&mut self) -> bool {
        let name = self.open.pop().unwrap_or_default();
        let depth = self.open.len() + 1;
        self.scope.retain(|(declared, _, _)| *declared < depth);
        let rest = &mut self.extension.rest;
        if std::mem::take(&mut self.is_at_start) {
            // Some watchers look for `<rpid:away/>` as a text.
            rest.pop();
            rest.push_str("/>");
        } else {
            rest.push_str("</");
            rest.push_str(&name);
            rest.push('>');
        }
        self.open.is_empty()
    }

    /// What was taken down; `None` where that would not be read as it was.
    pub(super) fn finish(self) -> Option<Extension> {
        (!self.is_spoiled).then_some(self.extension)
    }
}

/// The namespace that a prefix stands for, empty for none; `None` where nobody has declared it.
fn namespace(
    resolver: &NamespaceResolver,
    prefix: Option<Prefix<'_>>,
    is_element: bool,
) -> Option<String> {
    match resolver.resolve_prefix(prefix, is_element) {
        ResolveResult::Bound(Namespace(name)) => {
            let name = quick_xml::escape::unescape(name).ok()?;
            // No prefix stands for nothing.
            (prefix.is_none() || !name.is_empty()).then(|| name.into_owned())
        }
        ResolveResult::Unbound => Some(String::new()),
        ResolveResult::Unknown(_) => None,
    }
}

/// A name that is one beyond doubt: of the letters and digits of ASCII, with at most one prefix that may be used.
fn checked(name: &str) -> Option<&str> {
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let (prefix, local) = name.split_once(':').unwrap_or(("_", name));
    (is_name(prefix) && is_name(local) && prefix != "xmlns").then_some(name)
}

#[cfg(test)]
mod tests {
    use crate::Presence;

    fn document(declared: &str, inside: &str) -> String {
        format!(
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e' {declared}>{inside}</presence>"
        )
    }

    fn parse(declared: &str, inside: &str) -> Presence {
        Presence::parse(document(declared, inside).as_bytes()).unwrap()
    }

    /// Top-level extensions as they are written, each read again and found the same.
    fn kept(declared: &str, inside: &str) -> Vec<String> {
        let presence = parse(declared, inside);
        let again = Presence::parse(presence.to_xml().as_bytes()).unwrap();
        assert_eq!(again, presence);
        presence
            .extensions
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn elements_of_other_namespaces_are_kept_where_they_stand() {
        let inside = "<tuple id='t'><status><basic>open</basic><l:geo>x<l:y l:z='1' w=' &quot; '/></l:geo></status>\
                      <l:caps/><contact>sip:b@h</contact></tuple><note>n</note><d:person id='p'/>";
        let presence = parse("xmlns:l='urn:l' xmlns:d='urn:d'", inside);
        let xml = presence.to_xml();
        assert!(
            xml.ends_with(
                "<tuple id=\"t\"><status><basic>open</basic>\
                 <l:geo xmlns:l=\"urn:l\">x<l:y l:z=\"1\" w=\" &quot; \"/></l:geo></status>\
                 <l:caps xmlns:l=\"urn:l\"/><contact>sip:b@h</contact></tuple><note>n</note>\
                 <d:person id=\"p\" xmlns:d=\"urn:d\"/></presence>"
            ),
            "{xml}"
        );
        assert_eq!(Presence::parse(xml.as_bytes()).unwrap(), presence);
    }

    #[test]
    fn each_declares_the_namespaces_that_it_uses_and_no_others() {
        let declared = "xmlns:a='urn:1' xmlns:b='urn:b&amp;c' xmlns:unused='urn:u'";
        let inside = "<a:x xmlns:a='urn:2'><a:y xmlns:a='urn:1'/><b:z/></a:x><a:x/><x xmlns='urn:3'><y xmlns=''/></x>";
        let owed = [
            "<a:x xmlns:a=\"urn:2\"><a:y xmlns:a=\"urn:1\"/><b:z xmlns:b=\"urn:b&amp;c\"/></a:x>",
            "<a:x xmlns:a=\"urn:1\"/>",
            "<x xmlns=\"urn:3\"><y xmlns=\"\"/></x>",
        ];
        assert_eq!(kept(declared, inside), owed);
    }

    #[test]
    fn what_cannot_be_written_again_is_left_out_and_its_neighbours_stay() {
        for spoiled in [
            "<a:x><undeclared:y/></a:x>",
            "<a:x undeclared:y='1'/>",
            "<a:x y='1' y='2'/>",
            "<a:x y=1/>",
            "<a:x 1='y'/>",
            "<a:x><y$/></a:x>",
            "<undeclared:x/>",
            "<x xmlns=''/>",
            "<a:x xmlns:z='' z:y='1'/>",
        ] {
            let inside = format!("<a:before/>{spoiled}<a:after/>");
            let owed = [
                "<a:before xmlns:a=\"urn:a\"/>",
                "<a:after xmlns:a=\"urn:a\"/>",
            ];
            assert_eq!(kept("xmlns:a='urn:a'", &inside), owed, "{spoiled}");
        }
    }

    #[test]
    fn texts_stay_texts_and_comments_go() {
        let inside = "<a:x><!-- --><![CDATA[</a:x><b>]]>&lt;&#x41;<?p i?>\n</a:x>";
        let owed = "<a:x xmlns:a=\"urn:a\">&lt;/a:x&gt;&lt;b&gt;&lt;A&#10;</a:x>";
        assert_eq!(kept("xmlns:a='urn:a'", inside), [owed]);
    }

    #[test]
    fn a_small_document_does_not_become_a_large_one() {
        let declared = format!("xmlns:a='urn:{}'", "x".repeat(10_000));
        let text = document(&declared, &"<a:x/>".repeat(2_000));
        assert!(text.len() < 30_000);
        assert!(Presence::parse(text.as_bytes()).is_err());
        let text = document(
            &declared,
            &format!("<b xmlns='b'>{}</b>", "<a:x/>".repeat(2_000)),
        );
        assert!(Presence::parse(text.as_bytes()).is_err());
    }
}
