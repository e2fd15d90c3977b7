//! RFC 3261 §10.3 steps 6 and 7, rule by rule.

use std::time::Duration;

use sipora_message::Uri;
use sipora_transport::Transport;

use super::*;
use crate::Origin;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn change(call_id: &str, cseq: u32, update: Update) -> Change {
    let origin = Origin {
        transport: Transport::Udp,
        source: "192.0.2.7:5060".parse().unwrap(),
        flow: None,
    };
    Change::new(
        "sip:alice@example.com".parse().unwrap(),
        call_id,
        cseq,
        update,
        origin,
    )
}

/// Contacts as `(uri, seconds)`.
fn contacts(list: &[(&str, u32)]) -> Update {
    Update::Contacts(
        list.iter()
            .map(|(uri, expires)| ContactChange::new(Uri::parse(uri).unwrap(), *expires))
            .collect(),
    )
}

/// The bindings after some changes at [`NOW`], each of which must succeed.
fn after(changes: &[Change]) -> Vec<Binding> {
    changes.iter().fold(Vec::new(), |bindings, change| {
        register(&bindings, change, NOW).unwrap().bindings
    })
}

fn uris(bindings: &[Binding]) -> Vec<&str> {
    bindings.iter().map(Binding::uri).collect()
}

fn bound(call_id: &str, cseq: u32, list: &[(&str, u32)]) -> Vec<Binding> {
    after(&[change(call_id, cseq, contacts(list))])
}

#[test]
fn a_new_contact_is_added_with_call_id_cseq_and_origin() {
    let bindings = bound("one", 7, &[("sip:alice@192.0.2.7", 60)]);
    let [binding] = &bindings[..] else {
        panic!("{bindings:?}")
    };
    assert_eq!((binding.call_id(), binding.cseq()), ("one", 7));
    assert_eq!(binding.expires_at(), NOW.after(Duration::from_secs(60)));
    assert_eq!(binding.source(), "192.0.2.7:5060".parse().unwrap());
}

#[test]
fn a_refresh_with_the_same_call_id_needs_a_higher_cseq() {
    let bindings = bound("one", 7, &[("sip:alice@192.0.2.7", 60)]);
    for cseq in [6, 7] {
        let refused = register(
            &bindings,
            &change("one", cseq, contacts(&[("sip:alice@192.0.2.7", 90)])),
            NOW,
        );
        assert!(
            matches!(refused, Err(ChangeError::OutOfOrder { stored: 7, .. })),
            "{cseq}"
        );
    }
    let next = register(
        &bindings,
        &change("one", 8, contacts(&[("sip:alice@192.0.2.7", 90)])),
        NOW,
    )
    .unwrap();
    assert_eq!((next.added, next.removed, next.bindings.len()), (0, 0, 1));
    assert_eq!(next.bindings[0].remaining_seconds(NOW), 90);
}

#[test]
fn another_call_id_changes_a_binding_whatever_its_cseq() {
    let bindings = bound("one", 7, &[("sip:alice@192.0.2.7", 60)]);
    let next = register(
        &bindings,
        &change("two", 1, contacts(&[("sip:alice@192.0.2.7", 90)])),
        NOW,
    )
    .unwrap();
    assert_eq!(
        (next.bindings[0].call_id(), next.bindings[0].cseq()),
        ("two", 1)
    );
}

#[test]
fn call_ids_are_compared_octet_by_octet() {
    let bindings = bound("one", 7, &[("sip:alice@192.0.2.7", 60)]);
    assert!(
        register(
            &bindings,
            &change("ONE", 1, contacts(&[("sip:alice@192.0.2.7", 90)])),
            NOW
        )
        .is_ok()
    );
}

#[test]
fn removal_obeys_call_id_and_cseq_too() {
    let bindings = bound("one", 7, &[("sip:alice@192.0.2.7", 60)]);
    let gone = &[("sip:alice@192.0.2.7", 0)];
    assert!(register(&bindings, &change("one", 7, contacts(gone)), NOW).is_err());
    let next = register(&bindings, &change("one", 8, contacts(gone)), NOW).unwrap();
    assert_eq!((next.bindings.len(), next.removed), (0, 1));
    assert!(
        register(&bindings, &change("two", 1, contacts(gone)), NOW)
            .unwrap()
            .bindings
            .is_empty()
    );
}

#[test]
fn removing_what_is_not_bound_changes_nothing_and_succeeds() {
    let bindings = bound("one", 7, &[("sip:alice@192.0.2.7", 60)]);
    let next = register(
        &bindings,
        &change("one", 7, contacts(&[("sip:alice@192.0.2.8", 0)])),
        NOW,
    )
    .unwrap();
    assert_eq!(uris(&next.bindings), ["sip:alice@192.0.2.7"]);
}

#[test]
fn all_contacts_of_a_request_are_changed_or_none() {
    let bindings = bound("one", 7, &[("sip:alice@192.0.2.7", 60)]);
    // The first is new and the second comes too late: neither is stored.
    let both = contacts(&[("sip:alice@192.0.2.8", 60), ("sip:alice@192.0.2.7", 60)]);
    assert!(matches!(
        register(&bindings, &change("one", 7, both), NOW),
        Err(ChangeError::OutOfOrder { .. })
    ));
}

#[test]
fn one_request_adds_refreshes_and_removes() {
    let bindings = bound(
        "one",
        1,
        &[("sip:a@192.0.2.1", 60), ("sip:a@192.0.2.2", 60)],
    );
    let mixed = contacts(&[
        ("sip:a@192.0.2.1", 0),
        ("sip:a@192.0.2.2", 90),
        ("sip:a@192.0.2.3", 90),
    ]);
    let next = register(&bindings, &change("one", 2, mixed), NOW).unwrap();
    assert_eq!(uris(&next.bindings), ["sip:a@192.0.2.2", "sip:a@192.0.2.3"]);
    assert_eq!((next.added, next.removed), (1, 1));
}

#[test]
fn star_removes_every_binding_of_another_call_id_and_ours_with_a_higher_cseq() {
    let bindings = after(&[
        change("one", 7, contacts(&[("sip:a@192.0.2.1", 60)])),
        change("two", 3, contacts(&[("sip:a@192.0.2.2", 60)])),
    ]);
    let refused = register(&bindings, &change("one", 7, Update::RemoveAll), NOW);
    assert!(matches!(
        refused,
        Err(ChangeError::OutOfOrder { stored: 7, .. })
    ));
    let next = register(&bindings, &change("one", 8, Update::RemoveAll), NOW).unwrap();
    assert_eq!((next.bindings.len(), next.removed), (0, 2));
    assert!(register(&bindings, &change("three", 1, Update::RemoveAll), NOW).is_ok());
}

#[test]
fn contacts_are_compared_as_uris_and_not_as_text() {
    let bindings = bound("one", 1, &[("sip:Alice@EXAMPLE.net;lr", 60)]);
    // RFC 3261 §19.1.4: hosts without case, parameters in one URI alone are ignored, users with case.
    for (uri, count) in [
        ("sip:Alice@example.NET", 1),
        ("sip:%41lice@example.net", 1),
        ("sip:alice@example.net", 2),
        ("sip:Alice@example.net:5060", 2),
        ("sip:Alice@example.net;transport=udp", 2),
        ("sips:Alice@example.net", 2),
    ] {
        let next = register(&bindings, &change("two", 1, contacts(&[(uri, 60)])), NOW).unwrap();
        assert_eq!(next.bindings.len(), count, "{uri}");
    }
}

#[test]
fn a_contact_that_equals_two_bindings_takes_the_place_of_both() {
    // The first two differ from each other, and the third equals both.
    let two = bound(
        "one",
        1,
        &[("sip:a@192.0.2.1;x=1", 60), ("sip:a@192.0.2.1;x=2", 60)],
    );
    assert_eq!(two.len(), 2);
    let next = register(
        &two,
        &change("two", 1, contacts(&[("sip:a@192.0.2.1", 60)])),
        NOW,
    )
    .unwrap();
    assert_eq!(uris(&next.bindings), ["sip:a@192.0.2.1"]);
    assert_eq!((next.added, next.removed), (0, 1));
    // And the order of each of them is looked at.
    assert!(
        register(
            &two,
            &change("one", 1, contacts(&[("sip:a@192.0.2.1", 60)])),
            NOW
        )
        .is_err()
    );
}

#[test]
fn a_contact_twice_in_one_request_is_one_binding_as_the_last_says() {
    let next = register(
        &[],
        &change(
            "one",
            1,
            contacts(&[("sip:a@192.0.2.1", 60), ("sip:a@192.0.2.1", 90)]),
        ),
        NOW,
    )
    .unwrap();
    assert_eq!((next.bindings.len(), next.added), (1, 1));
    assert_eq!(next.bindings[0].remaining_seconds(NOW), 90);
}

#[test]
fn contacts_of_any_scheme_are_bound() {
    let bindings = bound(
        "one",
        1,
        &[
            ("tel:+1-212-555-0101", 60),
            ("mailto:alice@example.com", 60),
            ("tel:+12125550101", 60),
        ],
    );
    assert_eq!(
        uris(&bindings),
        ["tel:+12125550101", "mailto:alice@example.com"]
    );
}

#[test]
fn what_has_expired_orders_nothing_and_counts_for_nothing() {
    let bindings = bound("one", 7, &[("sip:a@192.0.2.1", 60)]);
    let later = NOW.after(Duration::from_secs(60));
    let next = register(
        &bindings,
        &change("one", 1, contacts(&[("sip:a@192.0.2.1", 60)])),
        later,
    )
    .unwrap();
    assert_eq!((next.added, next.bindings[0].cseq()), (1, 1));
}

#[test]
fn more_contacts_than_allowed_are_refused_and_refreshes_are_not() {
    let two = bound(
        "one",
        1,
        &[("sip:a@192.0.2.1", 60), ("sip:a@192.0.2.2", 60)],
    );
    let third = change("two", 1, contacts(&[("sip:a@192.0.2.3", 60)])).with_max_contacts(2);
    assert!(matches!(
        register(&two, &third, NOW),
        Err(ChangeError::TooManyContacts { limit: 2 })
    ));
    // A limit that was lowered afterwards ends no device that is bound.
    let refresh = change("one", 2, contacts(&[("sip:a@192.0.2.1", 60)])).with_max_contacts(1);
    assert_eq!(register(&two, &refresh, NOW).unwrap().bindings.len(), 2);
    // Room that one request makes it may use.
    let moved = contacts(&[("sip:a@192.0.2.3", 60), ("sip:a@192.0.2.1", 0)]);
    let moved = change("two", 1, moved).with_max_contacts(2);
    assert_eq!(
        uris(&register(&two, &moved, NOW).unwrap().bindings),
        ["sip:a@192.0.2.2", "sip:a@192.0.2.3"]
    );
}

#[test]
fn a_list_far_beyond_the_limit_is_refused_before_it_is_compared() {
    let list: Vec<String> = (0..2000)
        .map(|number| format!("sip:a@192.0.2.1:{}", 1024 + number))
        .collect();
    let list: Vec<(&str, u32)> = list.iter().map(|uri| (uri.as_str(), 0)).collect();
    assert!(matches!(
        register(&[], &change("one", 1, contacts(&list)), NOW),
        Err(ChangeError::TooManyContacts { .. })
    ));
}
