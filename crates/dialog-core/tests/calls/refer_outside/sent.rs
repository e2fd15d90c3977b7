//! Alice refers.

use std::time::Duration;

use super::*;
use sipora_dialog_core::{
    CallError, OutgoingRefer, ReferReport, SentRefer, SubscriberApi, SubscriberConfig,
};

fn to_bob(refer: Refer) -> OutgoingRefer {
    OutgoingRefer::new(
        uri(&format!("sip:bob@{BOB}")),
        uri("sip:alice@example.com"),
        uri(&format!("sip:alice@{ALICE}")),
        refer,
    )
}

/// Alice refers, and the phone answers with this status.
async fn refers(alice: &Agent, phone: &Phone, refer: Refer, status: u16) -> (SentRefer, Came) {
    let answering = async {
        let came = phone.first(Method::Refer).await;
        phone
            .answer_with(&came, status, "b", |builder| {
                builder.contact(format!("<sip:bob@{BOB}>"))
            })
            .await;
        came
    };
    let (sent, came) = tokio::join!(alice.dialogs.refer(to_bob(refer), None), answering);
    let sent = sent.unwrap();
    assert_eq!(sent.answer().response.status().as_u16(), status);
    (sent, came)
}

/// A NOTIFY of the phone's, by this tag.
fn notify(
    refer: &Request,
    tag: &str,
    cseq: u32,
    (event, state): (&str, &str),
    line: &str,
) -> Request {
    let dialog = InDialog::of_invite(refer, tag);
    dialog
        .request(Method::Notify, cseq)
        .contact(format!("<sip:bob@{BOB}>"))
        .header(HeaderName::Event, event)
        .header(HeaderName::SubscriptionState, state)
        .body("message/sipfrag", format!("SIP/2.0 {line}\r\n"))
        .build()
        .unwrap()
}

fn heard(report: Option<ReferReport>) -> (Option<u16>, bool) {
    let report = report.unwrap();
    (report.status.map(|status| status.as_u16()), report.is_over)
}

#[test]
fn a_refer_is_followed_until_its_end() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut sent, refer) = refers(&alice, &phone, carol(), 202).await;
        assert!(sent.answer().id.is_some());
        assert_eq!(refer.uri_text(), format!("sip:bob@{BOB}"));
        assert_eq!(header(refer.headers(), "Refer-To"), format!("<{CAROL}>"));
        assert_eq!(
            header(refer.headers(), "Referred-By"),
            "<sip:alice@example.com>"
        );
        assert_eq!(
            header(refer.headers(), "Contact"),
            format!("<sip:alice@{ALICE}>")
        );
        assert_eq!(alice.dialogs.call_metrics().refers_outside, 1);
        let steps = [
            (
                ("refer", "active;expires=60"),
                "100 Trying",
                (Some(100), false),
            ),
            // RFC 3515 §2.4.6: the id "MAY be included in NOTIFYs to the first REFER".
            (
                ("refer;id=1", "active;expires=59"),
                "180 Ringing",
                (Some(180), false),
            ),
            (
                ("refer", "terminated;reason=noresource"),
                "200 OK",
                (Some(200), true),
            ),
        ];
        for (cseq, (state, line, report)) in (20..).zip(steps) {
            let notify = notify(&refer, "b", cseq, state, line);
            assert_eq!(asked(&phone, &notify).await.status().as_u16(), 200);
            assert_eq!(heard(sent.next().await), report);
        }
        assert!(sent.next().await.is_none());
        let state = ("refer", "active;expires=60");
        let late = notify(&refer, "b", 30, state, "100 Trying");
        assert_eq!(asked(&phone, &late).await.status().as_u16(), 481);
        quiet(&alice).await;
    });
}

#[test]
fn a_notify_may_come_before_the_answer_and_makes_the_dialog() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let telling = async {
            let refer = phone.first(Method::Refer).await;
            let first = notify(&refer, "b", 7, ("refer", "active;expires=60"), "100 Trying");
            assert_eq!(asked(&phone, &first).await.status().as_u16(), 200);
            let last = ("refer", "terminated;reason=noresource");
            let last = notify(&refer, "b", 8, last, "200 OK");
            assert_eq!(asked(&phone, &last).await.status().as_u16(), 200);
            phone.answer(&refer, 200, "b").await;
        };
        let (sent, ()) = tokio::join!(alice.dialogs.refer(to_bob(carol()), None), telling);
        let mut sent = sent.unwrap();
        assert_eq!(heard(sent.next().await), (Some(100), false));
        assert_eq!(heard(sent.next().await), (Some(200), true));
        assert!(sent.next().await.is_none());
        quiet(&alice).await;
    });
}

#[test]
fn a_refused_refer_says_so_and_nothing_follows() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut sent, refer) = refers(&alice, &phone, carol(), 603).await;
        assert!(sent.answer().id.is_none());
        assert!(sent.next().await.is_none());
        let state = ("refer", "active;expires=60");
        let stray = notify(&refer, "b", 7, state, "100 Trying");
        assert_eq!(asked(&phone, &stray).await.status().as_u16(), 481);
        quiet(&alice).await;
    });
}

#[test]
fn a_peer_that_tells_nothing_is_given_up() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut sent, refer) = refers(&alice, &phone, carol(), 200).await;
        let before = tokio::time::Instant::now();
        assert_eq!(heard(sent.next().await), (None, true));
        // Timer N (RFC 6665 §4.1.2.4).
        assert_eq!(before.elapsed().as_secs(), 32);
        assert!(sent.next().await.is_none());
        let state = ("refer", "active;expires=60");
        let late = notify(&refer, "b", 7, state, "100 Trying");
        assert_eq!(asked(&phone, &late).await.status().as_u16(), 481);
        quiet(&alice).await;
    });
}

#[test]
fn a_peer_whose_time_is_over_is_given_up() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut sent, refer) = refers(&alice, &phone, carol(), 200).await;
        let state = ("refer", "active;expires=60");
        let first = notify(&refer, "b", 7, state, "100 Trying");
        assert_eq!(asked(&phone, &first).await.status().as_u16(), 200);
        assert_eq!(heard(sent.next().await), (Some(100), false));
        let before = tokio::time::Instant::now();
        assert_eq!(heard(sent.next().await), (None, true));
        assert!((91..=93).contains(&before.elapsed().as_secs()));
        assert!(sent.next().await.is_none());
        quiet(&alice).await;
    });
}

#[test]
fn whoever_a_proxy_has_sent_it_to_tells_of_its_own() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut sent, refer) = refers(&alice, &phone, carol(), 200).await;
        let active = ("refer", "active;expires=60");
        let over = ("refer", "terminated;reason=noresource");
        for tag in ["b", "c"] {
            let first = notify(&refer, tag, 7, active, "100 Trying");
            assert_eq!(asked_by(&phone, &first).await, 200);
            let report = sent.next().await.unwrap();
            let from = report.notify.unwrap();
            assert_eq!(from.headers().from().unwrap().tag(), Some(tag));
        }
        let last = notify(&refer, "b", 8, over, "486 Busy Here");
        assert_eq!(asked_by(&phone, &last).await, 200);
        assert_eq!(heard(sent.next().await), (Some(486), true));
        let last = notify(&refer, "c", 9, over, "200 OK");
        assert_eq!(asked_by(&phone, &last).await, 200);
        assert_eq!(heard(sent.next().await), (Some(200), true));
        assert!(sent.next().await.is_none());
        quiet(&alice).await;
    });
}

/// The answers of two dialogs have the same numbers.
async fn asked_by(phone: &Phone, notify: &Request) -> u16 {
    let before = phone.seen.statuses(notify).len();
    phone.send(notify, ALICE).await;
    while phone.seen.statuses(notify).len() == before {
        pass(5).await;
    }
    *phone.seen.statuses(notify).last().unwrap()
}

#[test]
fn notifies_that_do_not_belong_to_it_make_no_dialog() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut sent, refer) = refers(&alice, &phone, carol(), 200).await;
        let active = "active;expires=60";
        let good = notify(&refer, "b", 7, ("refer", active), "100 Trying");
        let cases = [
            notify(&refer, "b", 8, ("refer;id=7", active), "100 Trying"),
            notify(&refer, "b", 9, ("presence", active), "100 Trying"),
            good.edit()
                .set(HeaderName::CallId, "another")
                .set(HeaderName::CSeq, "10 NOTIFY")
                .build()
                .unwrap(),
            good.edit()
                .remove(HeaderName::Contact)
                .set(HeaderName::CSeq, "11 NOTIFY")
                .build()
                .unwrap(),
            good.edit()
                .remove(HeaderName::SubscriptionState)
                .set(HeaderName::CSeq, "12 NOTIFY")
                .build()
                .unwrap(),
        ];
        network.auditor().waive(sipora_testkit::audit::Rule::Dialog);
        network
            .auditor()
            .waive(sipora_testkit::audit::Rule::Sequence);
        for stray in cases {
            assert_eq!(asked(&phone, &stray).await.status().as_u16(), 481);
        }
        assert_eq!(asked(&phone, &good).await.status().as_u16(), 200);
        assert_eq!(heard(sent.next().await), (Some(100), false));
    });
}

#[test]
fn who_wants_no_subscription_has_none_if_the_peer_agrees() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let refer = to_bob(carol().without_subscription());
        let answering = async {
            let came = phone.first(Method::Refer).await;
            assert_eq!(header(came.headers(), "Refer-Sub"), "false");
            assert_eq!(header(came.headers(), "Supported"), "norefersub");
            phone
                .answer_with(&came, 200, "b", |builder| {
                    builder.header(HeaderName::from("Refer-Sub"), "false")
                })
                .await;
        };
        let (sent, ()) = tokio::join!(alice.dialogs.refer(refer, None), answering);
        let mut sent = sent.unwrap();
        assert!(sent.answer().id.is_none());
        assert!(sent.next().await.is_none());
        quiet(&alice).await;
    });
}

#[test]
fn a_challenge_is_answered_and_notifies_may_have_the_new_number() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let refer = to_bob(carol());
        let answering = async {
            let first = phone.first(Method::Refer).await;
            phone.answer(&first, 407, "b").await;
            let second = phone.nth(Method::Refer, 1).await;
            assert!(second.headers().contains(&HeaderName::ProxyAuthorization));
            assert_eq!(number(&second), number(&first) + 1);
            assert_eq!(to_tag(&second), "");
            phone.answer(&second, 200, "b").await;
            second
        };
        let (sent, refer) = tokio::join!(alice.dialogs.refer(refer, credentials()), answering);
        let mut sent = sent.unwrap();
        let state = ("refer;id=2", "terminated;reason=noresource");
        let last = notify(&refer, "b", 7, state, "200 OK");
        assert_eq!(asked(&phone, &last).await.status().as_u16(), 200);
        assert_eq!(heard(sent.next().await), (Some(200), true));
        assert!(sent.next().await.is_none());
        quiet(&alice).await;
    });
}

#[test]
fn who_drops_it_listens_no_more() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut sent, refer) = refers(&alice, &phone, carol(), 200).await;
        let state = ("refer", "active;expires=60");
        let first = notify(&refer, "b", 7, state, "100 Trying");
        assert_eq!(asked(&phone, &first).await.status().as_u16(), 200);
        assert_eq!(heard(sent.next().await), (Some(100), false));
        drop(sent);
        pass(10).await;
        let next = notify(&refer, "b", 8, state, "180 Ringing");
        assert_eq!(asked(&phone, &next).await.status().as_u16(), 481);
        quiet(&alice).await;
    });
}

#[test]
fn a_future_that_is_dropped_leaves_nothing() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let sending = alice.dialogs.refer(to_bob(carol()), None);
        let waits = tokio::time::timeout(Duration::from_millis(50), sending);
        assert!(waits.await.is_err());
        let refer = phone.first(Method::Refer).await;
        phone.answer(&refer, 200, "b").await;
        let state = ("refer", "active;expires=60");
        let first = notify(&refer, "b", 7, state, "100 Trying");
        assert_eq!(asked(&phone, &first).await.status().as_u16(), 481);
        quiet(&alice).await;
    });
}

#[test]
fn a_subscriber_beside_it_leaves_it_its_notifies() {
    scene(|network| async move {
        let mut place = site(&network, ALICE, 1);
        let config = SubscriberConfig::default();
        let _subscriber = SubscriberApi::add_to(&mut place.0, config, Vec::new());
        let alice = Agent::beside(place, ALICE, CallConfig::default()).await;
        let phone = Phone::new(&network).await;
        let (mut sent, refer) = refers(&alice, &phone, carol(), 200).await;
        let stray = notify(
            &refer,
            "b",
            7,
            ("weather", "active;expires=60"),
            "100 Trying",
        );
        assert_eq!(asked(&phone, &stray).await.status().as_u16(), 481);
        let last = ("refer", "terminated;reason=noresource");
        let last = notify(&refer, "b", 8, last, "200 OK");
        assert_eq!(asked(&phone, &last).await.status().as_u16(), 200);
        assert_eq!(heard(sent.next().await), (Some(200), true));
        let late = notify(&refer, "b", 9, ("refer", "active"), "100 Trying");
        assert_eq!(asked(&phone, &late).await.status().as_u16(), 481);
        quiet(&alice).await;
    });
}

#[test]
fn silence_is_an_error() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let sent = alice.dialogs.refer(to_bob(carol()), None).await;
        assert!(matches!(sent, Err(CallError::Failed(_))), "{sent:?}");
        assert_eq!(phone.count(Method::Refer), 1);
        quiet(&alice).await;
    });
}

#[test]
fn an_endpoint_that_ends_tells_who_waits() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let (mut sent, _) = refers(&alice, &phone, carol(), 200).await;
        alice.shuts_down().await;
        assert!(sent.next().await.is_none());
    });
}
