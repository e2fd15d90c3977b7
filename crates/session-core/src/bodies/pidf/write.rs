//! Writing a presence document.

use super::{NAMESPACE, Presence, Tuple};

impl Presence {
    /// Writes the document, in UTF-8, of type [`CONTENT_TYPE`](Self::CONTENT_TYPE). Whatever the texts hold, it is
    /// well-formed; a character that XML cannot hold at all, such as most control characters, becomes U+FFFD.
    pub fn to_xml(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<presence");
        attribute(&mut xml, "xmlns", NAMESPACE);
        attribute(&mut xml, "entity", &self.entity);
        xml.push('>');
        for tuple in &self.tuples {
            tuple.write(&mut xml);
        }
        for note in &self.notes {
            element(&mut xml, "note", note);
        }
        for extension in &self.extensions {
            extension.write(&mut xml);
        }
        xml.push_str("</presence>");
        xml
    }
}

impl Tuple {
    /// In the order of the schema (RFC 3863 §4.4): status, extensions, contact, notes, timestamp.
    fn write(&self, xml: &mut String) {
        xml.push_str("<tuple");
        attribute(xml, "id", &self.id);
        xml.push_str("><status>");
        if let Some(basic) = self.basic {
            element(xml, "basic", basic.as_str());
        }
        for extension in &self.status_extensions {
            extension.write(xml);
        }
        xml.push_str("</status>");
        for extension in &self.extensions {
            extension.write(xml);
        }
        if let Some(contact) = &self.contact {
            xml.push_str("<contact");
            if let Some(priority) = self.priority.filter(|priority| !priority.is_nan()) {
                attribute(xml, "priority", &decimal(priority));
            }
            xml.push('>');
            escape(xml, contact);
            xml.push_str("</contact>");
        }
        for note in &self.notes {
            element(xml, "note", note);
        }
        if let Some(timestamp) = &self.timestamp {
            element(xml, "timestamp", timestamp);
        }
        xml.push_str("</tuple>");
    }
}

/// RFC 3863 §4.1.5: 0 to 1, with up to three decimals.
fn decimal(priority: f32) -> String {
    let text = format!("{:.3}", priority.clamp(0.0, 1.0));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn element(xml: &mut String, name: &str, text: &str) {
    xml.push('<');
    xml.push_str(name);
    xml.push('>');
    escape(xml, text);
    xml.push_str("</");
    xml.push_str(name);
    xml.push('>');
}

pub(super) fn attribute(xml: &mut String, name: &str, value: &str) {
    xml.push(' ');
    xml.push_str(name);
    xml.push_str("=\"");
    escape(xml, value);
    xml.push('"');
}

/// Escapes for text and attributes alike. White space that a reader would change there (XML 1.0 §2.11, §3.3.3) is written as
/// a reference.
pub(super) fn escape(xml: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '&' => xml.push_str("&amp;"),
            '"' => xml.push_str("&quot;"),
            '\'' => xml.push_str("&apos;"),
            '\t' => xml.push_str("&#9;"),
            '\n' => xml.push_str("&#10;"),
            '\r' => xml.push_str("&#13;"),
            // XML 1.0 §2.2; XML 1.1 would change the two of §2.11 that follow.
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => xml.push('\u{fffd}'),
            '\u{85}' => xml.push_str("&#133;"),
            '\u{2028}' => xml.push_str("&#8232;"),
            other => xml.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Basic;

    #[test]
    fn what_a_document_says_is_read_as_it_was_written() {
        let hostile = "</note><note>\u{0}\u{1b}\u{fffe}]]>&amp;<!--";
        let presence = Presence::new("sip:b\"o'b@h?a=1&b=<2>\t\r\n")
            .with_note(hostile)
            .with_tuple(Tuple::new("a").with_priority(0.5))
            .with_tuple(
                Tuple::new("b")
                    .with_contact("sip:h")
                    .with_priority(f32::NAN),
            )
            .with_tuple(Tuple::new("c").with_contact("sip:h").with_priority(7.0));
        let read = Presence::parse(presence.to_xml().as_bytes()).unwrap();
        assert_eq!(read.entity, presence.entity);
        assert_eq!(
            read.notes,
            [hostile.replace(['\u{0}', '\u{1b}', '\u{fffe}'], "\u{fffd}")]
        );
        let priorities: Vec<_> = read.tuples.iter().map(|tuple| tuple.priority).collect();
        assert_eq!(priorities, [None, None, Some(1.0)]);
        assert_eq!(read.basic(), None);
    }

    #[test]
    fn a_priority_has_no_more_decimals_than_it_needs() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (0.8, "0.8"),
            (0.1234, "0.123"),
            (-1.0, "0"),
        ];
        for (priority, text) in cases {
            assert_eq!(decimal(priority), text);
        }
    }

    /// What a document keeps: texts without white space around them, which readers take off, and without what XML cannot
    /// hold.
    fn text() -> impl Strategy<Value = String> {
        let any = any::<String>().prop_map(|text| {
            let is_xml =
                |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
            text.chars().filter(is_xml).collect::<String>()
        });
        let any = prop_oneof![any, "[a-z<>&;'\"\r\n\t \u{85}\u{2028}#x0-9\\]]{0,20}"];
        any.prop_map(|text| text.trim().to_owned())
    }

    fn tuple() -> impl Strategy<Value = Tuple> {
        let basic = prop_oneof![
            Just(None),
            Just(Some(Basic::Open)),
            Just(Some(Basic::Closed))
        ];
        let contact = proptest::option::of((text(), proptest::option::of(0..=1000u16)));
        let notes = proptest::collection::vec(text(), 0..3);
        let parts = (text(), basic, contact, notes, proptest::option::of(text()));
        parts.prop_map(|(id, basic, contact, notes, timestamp)| {
            let (contact, priority) =
                contact.map_or((None, None), |(uri, priority)| (Some(uri), priority));
            Tuple {
                id,
                basic,
                contact,
                priority: priority.map(|thousandths| f32::from(thousandths) / 1000.0),
                notes,
                timestamp,
                ..Tuple::default()
            }
        })
    }

    proptest! {
        #[test]
        fn every_document_is_read_as_it_was_written(
            entity in text(),
            tuples in proptest::collection::vec(tuple(), 0..4),
            notes in proptest::collection::vec(text(), 0..3),
        ) {
            let presence = Presence { tuples, notes, ..Presence::new(entity) };
            prop_assert_eq!(Presence::parse(presence.to_xml().as_bytes()), Ok(presence));
        }
    }
}
