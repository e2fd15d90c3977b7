//! From what is known of a user to the one document that watchers see (RFC 3856 §6.11.1, RFC 3863).

use std::collections::HashSet;

use sipora_message::Uri;
use sipora_session_core::{Basic, Presence, Tuple};

use crate::AddressOfRecord;

/// Composes the document of `address`: a tuple of the registration, then what is published.
///
/// - `entity` is "the 'pres' URL of the PRESENTITY" (RFC 3863 §4.1.1), with user and domain of the address-of-record (RFC
///   3859 §2), whatever the published documents call it.
/// - The tuple `registration` is open while anything is bound that can be reached, and its contact is the address-of-record: "Using an
///   address-of-record instead allows subsequent communications from a watcher to pass through proxies" (RFC 3856 §7.2),
///   and tells nobody where somebody's devices are.
/// - Every published tuple follows, as it was published, under an `id` of ours: two devices may both call theirs `phone`,
///   and "The value of the id attribute MUST be unique within document" (RFC 3863 §4.1.2). The new one stays the same for
///   as long as the publication does. Notes follow.
///
/// - Tuples that are open come first, in the same order among themselves: some watchers (baresip) read the first `basic` of a
///   document and no other, and who is open anywhere is open (RFC 3863 §4.1.4 says it of each tuple alone).
/// - What stands there in other namespaces follows as it was published: persons and devices (RFC 4479), under an `id` of
///   ours too, activities (RFC 4480). Where two publications tell of the same person, both are passed on.
///
/// No state wins over another: who publishes `open` and has no device registered is both, as two tuples.
pub(crate) fn compose<'a>(
    address: &AddressOfRecord,
    is_registered: bool,
    published: impl Iterator<Item = (u64, &'a Presence)>,
) -> Presence {
    let uri = address.to_uri();
    let basic = match is_registered {
        true => Basic::Open,
        false => Basic::Closed,
    };
    let mut registration = Tuple::new("registration").with_basic(basic);
    registration.contact = uri.as_ref().map(ToString::to_string);
    let mut document = Presence::new(entity(address, uri.as_ref())).with_tuple(registration);
    for (number, presence) in published {
        let mut taken = HashSet::new();
        for (place, tuple) in presence.tuples.iter().enumerate() {
            let mut tuple = tuple.clone();
            tuple.id = identifier(number, &tuple.id);
            if !taken.insert(tuple.id.clone()) {
                tuple.id = format!("{}.{place}", tuple.id);
            }
            document.tuples.push(tuple);
        }
        document.notes.extend(presence.notes.iter().cloned());
        for (place, extension) in presence.extensions.iter().enumerate() {
            let extension = extension.clone();
            let Some(id) = extension.id().map(|id| identifier(number, id)) else {
                document.extensions.push(extension);
                continue;
            };
            let id = match taken.insert(id.clone()) {
                true => id,
                false => format!("{id}.e{place}"),
            };
            document.extensions.push(extension.with_id(id));
        }
    }
    let is_open = |tuple: &Tuple| tuple.basic == Some(Basic::Open);
    document.tuples.sort_by_key(|tuple| !is_open(tuple));
    document
}

/// RFC 3859: `pres:` with what follows `sip:` in the address-of-record.
fn entity(address: &AddressOfRecord, uri: Option<&Uri>) -> String {
    let text = uri.map(ToString::to_string);
    let rest = text.as_deref().and_then(|text| text.strip_prefix("sip:"));
    format!("pres:{}", rest.unwrap_or(address.as_str()))
}

/// An `id` is an XML name without a colon, which does not begin with a digit; what a publisher sent may be anything.
fn identifier(number: u64, id: &str) -> String {
    let plain: String = id
        .chars()
        .take(MAX_ID_CHARACTERS)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c,
            _ => '_',
        })
        .collect();
    format!("p{number}.{plain}")
}

const MAX_ID_CHARACTERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> AddressOfRecord {
        text.parse().unwrap()
    }

    fn published(tuples: &str) -> Presence {
        let text = format!(
            "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='sip:x@y'>{tuples}</presence>"
        );
        Presence::parse(text.as_bytes()).unwrap()
    }

    fn ids(document: &Presence) -> Vec<&str> {
        document.tuples.iter().map(|one| one.id.as_str()).collect()
    }

    #[test]
    fn who_is_registered_is_open_and_who_is_not_is_closed() {
        let alice = address("sip:alice@example.com");
        for (is_registered, owed) in [(true, Basic::Open), (false, Basic::Closed)] {
            let document = compose(&alice, is_registered, std::iter::empty());
            assert_eq!(document.entity, "pres:alice@example.com");
            assert_eq!(document.basic(), Some(owed));
            let contact = document.tuples[0].contact.as_deref();
            assert_eq!(contact, Some("sip:alice@example.com"));
        }
    }

    #[test]
    fn what_is_published_follows_the_registration_under_ids_of_its_own() {
        let one = published(
            "<tuple id='phone'><status><basic>open</basic></status></tuple><note>in Tokyo</note>",
        );
        let two = published(
            "<tuple id='phone'><status><basic>closed</basic></status></tuple><tuple id='phone'><status/></tuple>",
        );
        let alice = address("sip:alice@example.com");
        let document = compose(&alice, false, [(3, &one), (8, &two)].into_iter());
        let owed = ["p3.phone", "registration", "p8.phone", "p8.phone.1"];
        assert_eq!(ids(&document), owed, "open ones first");
        assert_eq!(document.basic(), Some(Basic::Open));
        assert_eq!(document.notes, ["in Tokyo"]);
    }

    #[test]
    fn the_first_basic_of_a_document_is_that_of_an_open_tuple() {
        let one = published(
            "<tuple id='c'><status><basic>closed</basic></status></tuple><tuple id='o'><status><basic>open</basic></status></tuple>",
        );
        let alice = address("sip:alice@example.com");
        let document = compose(&alice, false, [(1, &one)].into_iter());
        assert_eq!(ids(&document), ["p1.o", "registration", "p1.c"]);
        let xml = document.to_xml();
        let (_, after) = xml.split_once("<basic>").unwrap();
        assert!(after.starts_with("open"), "{xml}");
        let document = compose(&alice, true, [(1, &one)].into_iter());
        assert_eq!(ids(&document), ["registration", "p1.o", "p1.c"]);
    }

    #[test]
    fn what_is_of_other_namespaces_is_passed_on_whatever_prefixes_two_publishers_use() {
        let away = published(
            "<tuple id='a'><status><basic>open</basic><x:busy xmlns:x='urn:1'/></status><x:caps xmlns:x='urn:1'/></tuple>\
             <x:person xmlns:x='urn:dm' id='me'><x:away/></x:person><x:device xmlns:x='urn:dm' id='me'/>",
        );
        let busy = published(
            "<x:person xmlns:x='urn:other' id='me'/><x:person xmlns:x='urn:dm' id='a'/><y xmlns='urn:y'/>",
        );
        let alice = address("sip:alice@example.com");
        let document = compose(&alice, true, [(1, &away), (2, &busy)].into_iter());
        let xml = document.to_xml();
        assert_eq!(Presence::parse(xml.as_bytes()).unwrap(), document);
        for owed in [
            "<basic>open</basic><x:busy xmlns:x=\"urn:1\"/></status><x:caps xmlns:x=\"urn:1\"/>",
            "<x:person id=\"p1.me\" xmlns:x=\"urn:dm\"><x:away/></x:person>",
            "<x:device id=\"p1.me.e1\" xmlns:x=\"urn:dm\"/>",
            "<x:person id=\"p2.me\" xmlns:x=\"urn:other\"/>",
            "<x:person id=\"p2.a\" xmlns:x=\"urn:dm\"/>",
            "<y xmlns=\"urn:y\"/></presence>",
        ] {
            assert!(xml.contains(owed), "{owed}: {xml}");
        }
    }

    #[test]
    fn an_id_that_is_no_name_becomes_one() {
        let odd = published("<tuple id='1:&lt;&quot;é'><status/></tuple>");
        let alice = address("sip:alice@example.com");
        let document = compose(&alice, true, [(1, &odd)].into_iter());
        assert_eq!(ids(&document)[1], "p1.1____");
    }

    #[test]
    fn an_odd_user_stays_escaped() {
        let document = compose(&address("sip:a%40b@example.com"), true, std::iter::empty());
        assert_eq!(document.entity, "pres:a%40b@example.com");
    }
}
