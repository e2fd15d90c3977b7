//! MESSAGE and OPTIONS to users: relayed to their contacts as a stateful proxy does it (RFC 3261 §16).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use sipora_auth::{ClientAuthenticator, Credentials};
use sipora_call_engine::{CallCenterConfig, Network, Timers};
use sipora_message::{HeaderName, Limits, Message, Request};

const BOB: &str = "sip:bob@example.com";
const DESK: &str = "192.0.2.21:5060";
const MOBILE: &str = "192.0.2.22:5060";

fn guarded(config: CallCenterConfig) -> CallCenterConfig {
    config
        .with_domain("example.com")
        .with_domain("example.net")
        .with_user("alice", "wonderland")
        .with_user("bob", "builder")
}

/// Registers bob's phone in an open lab.
async fn bind(phone: &mut Phone, contact: &str) {
    let asked = register(1)
        .to(BOB)
        .from(BOB)
        .call_id(contact)
        .contact(&format!("<{contact}>"));
    assert_eq!(status(&phone.ask(&asked).await), 200);
}

/// An open lab in which bob has two phones.
async fn two_phones() -> (Lab, Phone, Phone) {
    let lab = open_lab().await;
    let mut desk = Phone::new(&lab.network, DESK);
    let mut mobile = Phone::new(&lab.network, MOBILE);
    bind(&mut desk, "sip:bob@192.0.2.21;line=1").await;
    bind(&mut mobile, "sip:bob@192.0.2.22").await;
    (lab, desk, mobile)
}

/// Sends without waiting for the answer.
fn send(phone: &mut Phone, asked: &Ask) -> Request {
    let request = phone.request(asked);
    phone.send(request.as_bytes());
    request
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[tokio::test(start_paused = true)]
async fn a_message_reaches_every_contact_and_one_answer_comes_back() {
    let (mut lab, mut desk, mut mobile) = two_phones().await;
    let sent = send(
        &mut lab.phone,
        &message(BOB, "hello").with("Max-Forwards: 9"),
    );
    let at_desk = desk.receive_request().await.expect("the desk phone's copy");
    let at_mobile = mobile.receive_request().await.expect("the mobile's copy");
    assert_eq!(at_desk.uri_text(), "sip:bob@192.0.2.21;line=1");
    assert_eq!(at_mobile.uri_text(), "sip:bob@192.0.2.22");
    for copy in [&at_desk, &at_mobile] {
        let (headers, original) = (copy.headers(), sent.headers());
        assert_eq!(copy.body(), b"hello");
        assert_eq!(headers.max_forwards().unwrap(), Some(8));
        let vias: Vec<_> = headers.vias().map(Result::unwrap).collect();
        assert_eq!(vias.len(), 2);
        assert_eq!(vias[0].host_str(), "192.0.2.1");
        assert_eq!(vias[1].branch(), original.via().unwrap().branch());
        for name in [
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::CSeq,
        ] {
            assert_eq!(headers.first(&name), original.first(&name), "{name:?}");
        }
        assert!(!headers.contains(&HeaderName::RecordRoute));
    }
    let branch = |copy: &Request| copy.headers().via().unwrap().branch().map(str::to_owned);
    assert_ne!(branch(&at_desk), branch(&at_mobile));

    // The first 2xx goes back at once; the other phone's is nobody's business.
    mobile.reply(&at_mobile, 202, &["X-Phone: mobile"]);
    let answer = lab.phone.receive().await.expect("an answer");
    assert_eq!(status(&answer), 202);
    assert_eq!(answer.headers().vias().count(), 1);
    assert_eq!(
        header(&answer, HeaderName::from("X-Phone")).unwrap(),
        "mobile"
    );
    desk.reply(&at_desk, 200, &[]);
    assert!(lab.phone.receive().await.is_none());
    // A copy of the request gets the same answer, and no phone gets another message.
    lab.phone.send(sent.as_bytes());
    assert_eq!(status(&lab.phone.receive().await.unwrap()), 202);
    assert!(desk.receive_request().await.is_none());

    let metrics = lab.engine.metrics().relay;
    assert_eq!(
        (
            metrics.requests,
            metrics.branches,
            metrics.answers,
            metrics.pending
        ),
        (1, 2, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn options_to_a_user_is_the_phone_s_to_answer() {
    let (mut lab, mut desk, mut mobile) = two_phones().await;
    send(&mut lab.phone, &options(BOB));
    let at_desk = desk.receive_request().await.unwrap();
    let at_mobile = mobile.receive_request().await.unwrap();
    assert_eq!(at_desk.method().as_str(), "OPTIONS");
    mobile.reply(&at_mobile, 486, &[]);
    assert!(lab.phone.receive().await.is_none(), "not the best yet");
    desk.reply(&at_desk, 200, &["Allow: INVITE, MESSAGE"]);
    let answer = lab.phone.receive().await.unwrap();
    assert_eq!(status(&answer), 200);
    assert_eq!(
        header(&answer, HeaderName::Allow).unwrap(),
        "INVITE, MESSAGE"
    );
}

#[tokio::test(start_paused = true)]
async fn the_best_refusal_comes_back_when_all_have_refused() {
    let (mut lab, mut desk, mut mobile) = two_phones().await;
    for (number, (at_desk, at_mobile, owed)) in [
        (486, 603, 603),
        (500, 486, 486),
        (415, 404, 415),
        (503, 503, 500),
        (408, 408, 480),
    ]
    .into_iter()
    .enumerate()
    {
        let call_id = format!("call-{number}");
        send(&mut lab.phone, &message(BOB, "hello").call_id(&call_id));
        let copies = (
            desk.receive_request().await.unwrap(),
            mobile.receive_request().await.unwrap(),
        );
        desk.reply(&copies.0, at_desk, &[]);
        mobile.reply(&copies.1, at_mobile, &[]);
        let answer = lab.phone.receive().await.unwrap();
        assert_eq!(status(&answer), owed, "{at_desk} {at_mobile}");
        assert!(lab.phone.receive().await.is_none());
    }
    assert_eq!(lab.engine.metrics().relay.pending, 0);
}

#[tokio::test(start_paused = true)]
async fn challenges_of_all_phones_come_back_together() {
    let (mut lab, mut desk, mut mobile) = two_phones().await;
    send(&mut lab.phone, &message(BOB, "hello"));
    let at_desk = desk.receive_request().await.unwrap();
    let at_mobile = mobile.receive_request().await.unwrap();
    desk.reply(
        &at_desk,
        401,
        &["WWW-Authenticate: Digest realm=\"desk\", nonce=\"1\", qop=\"auth\""],
    );
    mobile.reply(
        &at_mobile,
        407,
        &["Proxy-Authenticate: Digest realm=\"mobile\", nonce=\"2\", qop=\"auth\""],
    );
    let answer = lab.phone.receive().await.unwrap();
    assert!([401, 407].contains(&status(&answer)));
    assert_eq!(answer.headers().count(&HeaderName::WwwAuthenticate), 1);
    assert_eq!(answer.headers().count(&HeaderName::ProxyAuthenticate), 1);
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_is_silent_is_480_before_the_sender_gives_up() {
    let (mut lab, mut desk, _mobile) = two_phones().await;
    send(&mut lab.phone, &message(BOB, "hello"));
    let begun = tokio::time::Instant::now();
    let at_desk = desk.receive_request().await.unwrap();
    desk.reply(&at_desk, 500, &[]);
    let answer = lab
        .phone
        .receive_final(seconds(40))
        .await
        .expect("no silence");
    assert_eq!(status(&answer), 480);
    assert!(begun.elapsed() < seconds(25), "{:?}", begun.elapsed());
    let metrics = lab.engine.metrics();
    assert_eq!((metrics.relay.pending, metrics.relay.unavailable), (0, 1));
    after(40).await;
    let transactions = lab.engine.metrics().transactions;
    assert_eq!(
        (
            transactions.server_transactions,
            transactions.requests,
            transactions.timer_entries
        ),
        (0, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn shorter_timers_make_for_less_patience() {
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .with_timers(Timers {
                t1: Duration::from_millis(50),
                ..Timers::default()
            })
    })
    .await;
    let mut desk = Phone::new(&lab.network, DESK);
    bind(&mut desk, "sip:bob@192.0.2.21").await;
    send(&mut lab.phone, &message(BOB, "hello"));
    let begun = tokio::time::Instant::now();
    assert_eq!(
        status(&lab.phone.receive_final(seconds(10)).await.unwrap()),
        480
    );
    assert!(begun.elapsed() <= seconds(3), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_is_unknown_is_404_and_who_is_away_is_480() {
    let mut lab = lab(guarded).await;
    for (uri, owed) in [
        (BOB, 480),
        ("sip:bob@example.net", 480),
        ("sip:carol@example.com", 404),
    ] {
        for asked in [message(uri, "hello"), options(uri)] {
            let asked = asked.call_id(&format!("{uri}-{owed}"));
            let answer = lab.phone.ask_as(&asked, "alice", "wonderland").await;
            assert_eq!(status(&answer), owed, "{} {uri}", asked.method);
        }
    }
    // An expired binding is none.
    let mut desk = Phone::new(&lab.network, DESK);
    let asked = register(1)
        .to(BOB)
        .contact("<sip:bob@192.0.2.21>;expires=60");
    assert_eq!(status(&desk.ask_as(&asked, "bob", "builder").await), 200);
    after(61).await;
    let asked = message(BOB, "hello").call_id("later");
    assert_eq!(
        status(&lab.phone.ask_as(&asked, "alice", "wonderland").await),
        480
    );
    let metrics = lab.engine.metrics().relay;
    assert_eq!((metrics.not_found, metrics.unavailable), (2, 5));
}

#[tokio::test(start_paused = true)]
async fn nobody_but_this_server_s_users_is_served() {
    let mut lab = open_lab().await;
    for (uri, owed) in [
        ("sip:bob@elsewhere.example", 404),
        ("sip:elsewhere.example", 404),
        ("tel:+12125550101", 416),
        ("sip:example.com", 405),
    ] {
        let answer = lab.phone.ask(&message(uri, "hello").call_id(uri)).await;
        assert_eq!(status(&answer), owed, "{uri}");
        if owed == 405 {
            assert_eq!(
                header(&answer, HeaderName::Allow).unwrap(),
                "REGISTER, OPTIONS, SUBSCRIBE, PUBLISH"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_are_challenged_and_learn_nothing_about_users() {
    let mut lab = lab(guarded).await;
    for (uri, from, realm) in [
        (BOB, "sip:alice@example.com", "example.com"),
        (
            "sip:nobody@example.com",
            "sip:alice@example.com",
            "example.com",
        ),
        (BOB, "sip:alice@example.net", "example.net"),
        (BOB, "sip:carol@elsewhere.example", "example.com"),
    ] {
        let answer = lab.phone.ask(&message(uri, "hello").from(from)).await;
        assert_eq!(status(&answer), 407, "{uri} {from}");
        let challenge = header(&answer, HeaderName::ProxyAuthenticate).unwrap();
        assert!(
            challenge.contains(&format!("realm=\"{realm}\"")),
            "{challenge}"
        );
    }
    let metrics = lab.engine.metrics();
    assert_eq!(metrics.relay.challenges, 4);
    assert_eq!(metrics.transactions.server_transactions, 0);
    // A wrong password is a challenge again, and counted.
    let answer = lab
        .phone
        .ask_as(&message(BOB, "hello"), "alice", "guess")
        .await;
    assert_eq!(status(&answer), 407);
    assert_eq!(lab.engine.metrics().relay.wrong_credentials, 1);
}

#[tokio::test(start_paused = true)]
async fn from_belongs_to_who_sends() {
    let mut lab = lab(guarded).await;
    for from in [
        "sip:bob@example.com",
        "sip:carol@elsewhere.example",
        "sip:example.com",
    ] {
        let asked = message(BOB, "hello").from(from).call_id(from);
        let answer = lab.phone.ask_as(&asked, "alice", "wonderland").await;
        assert_eq!(status(&answer), 403, "{from}");
    }
    assert_eq!(lab.engine.metrics().relay.forbidden, 3);
}

#[tokio::test(start_paused = true)]
async fn credentials_for_us_stay_here() {
    let mut lab = lab(guarded).await;
    let mut desk = Phone::new(&lab.network, DESK);
    let asked = register(1)
        .to(BOB)
        .from(BOB)
        .contact("<sip:bob@192.0.2.21>");
    assert_eq!(status(&desk.ask_as(&asked, "bob", "builder").await), 200);
    let asked = message(BOB, "hello")
        .with("Proxy-Authorization: Digest username=\"a\", realm=\"other\", nonce=\"1\", uri=\"sip:x\", response=\"2\"")
        .with("P-Asserted-Identity: <sip:bob@example.com>");
    let sending = lab.phone.ask_as(&asked, "alice", "wonderland");
    let receiving = async {
        let copy = desk.receive_request().await.expect("the message");
        desk.reply(&copy, 200, &[]);
        copy
    };
    let (answer, copy) = tokio::join!(sending, receiving);
    assert_eq!(status(&answer), 200);
    let headers = copy.headers();
    let left: Vec<_> = headers.all(&HeaderName::ProxyAuthorization).collect();
    let is_other = |line: &&[u8]| String::from_utf8_lossy(line).contains("realm=\"other\"");
    assert!(!left.is_empty() && left.iter().all(is_other));
    assert!(!headers.contains(&HeaderName::PAssertedIdentity));
}

#[tokio::test(start_paused = true)]
async fn hops_extensions_and_routes_are_checked() {
    let (mut lab, mut desk, mut mobile) = two_phones().await;
    for (line, owed) in [
        ("Max-Forwards: 0", 483),
        ("Proxy-Require: foo", 420),
        ("Route: <sip:elsewhere.example;lr>", 403),
    ] {
        let asked = message(BOB, "hello")
            .with(line)
            .call_id(&format!("owes-{owed}"));
        let answer = lab.phone.ask(&asked).await;
        assert_eq!(status(&answer), owed, "{line}");
        if owed == 420 {
            assert_eq!(answer.headers().unsupported().collect::<Vec<_>>(), ["foo"]);
        }
    }
    // A Route that leads here is taken off; what the phone must understand is for the phone to judge.
    let asked = message(BOB, "hello")
        .with("Route: <sip:192.0.2.1;lr>")
        .with("Require: foo");
    send(&mut lab.phone, &asked);
    let copy = desk.receive_request().await.unwrap();
    assert!(!copy.headers().contains(&HeaderName::Route));
    assert_eq!(copy.headers().require().collect::<Vec<_>>(), ["foo"]);
    desk.reply(&copy, 420, &["Unsupported: foo"]);
    let copy = mobile.receive_request().await.unwrap();
    mobile.reply(&copy, 480, &[]);
    assert_eq!(status(&lab.phone.receive().await.unwrap()), 420);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_back_is_a_loop() {
    let (mut lab, mut desk, mut mobile) = two_phones().await;
    send(&mut lab.phone, &message(BOB, "hello"));
    let copy = desk.receive_request().await.unwrap();
    // The desk phone forwards to the address again, as a proxy would.
    let mut looped = copy.edit().uri(&sipora_message::Uri::parse(BOB).unwrap());
    looped = looped.prepend(
        HeaderName::Via,
        "SIP/2.0/UDP 192.0.2.21:5060;branch=z9hG4bKloop",
    );
    desk.send(looped.build().unwrap().as_bytes());
    let answer = desk.receive().await.unwrap();
    assert_eq!(status(&answer), 482);
    desk.reply(&copy, 482, &[]);
    let copy = mobile.receive_request().await.unwrap();
    mobile.reply(&copy, 200, &[]);
    assert_eq!(status(&lab.phone.receive().await.unwrap()), 200);
    assert_eq!(lab.engine.metrics().relay.loops, 1);
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_is_this_server_loops_no_more_than_once() {
    let mut lab = open_lab().await;
    let mut desk = Phone::new(&lab.network, DESK);
    for number in 0..5 {
        bind(&mut desk, &format!("sip:bob@example.com;n={number}")).await;
    }
    send(&mut lab.phone, &message(BOB, "hello"));
    let mut copies = Vec::new();
    for _ in 0..5 {
        copies.push(desk.receive_request().await.unwrap());
    }
    for copy in copies {
        let via = "SIP/2.0/UDP 192.0.2.21:5060;branch=z9hG4bK";
        let via = format!("{via}{}", copy.uri_text().rsplit('=').next().unwrap());
        let looped = copy.edit().prepend(HeaderName::Via, via).build().unwrap();
        desk.send(looped.as_bytes());
        assert_eq!(status(&desk.receive().await.unwrap()), 482);
        desk.reply(&copy, 482, &[]);
    }
    assert_eq!(status(&lab.phone.receive().await.unwrap()), 482);
    assert_eq!(lab.engine.metrics().relay.branches, 5);
}

#[tokio::test(start_paused = true)]
async fn contacts_that_are_other_users_of_this_server_do_not_multiply() {
    const USERS: usize = 6;
    let mut lab = open_lab().await;
    let mut gone = Phone::new(&lab.network, DESK);
    for user in 0..USERS {
        let address = format!("sip:user{user}@example.com");
        for other in 0..USERS {
            let contact = format!("<sip:user{other}@example.com;maddr=192.0.2.1>");
            let asked = register(1).to(&address).from(&address).contact(&contact);
            let asked = asked.call_id(&format!("{user}-{other}"));
            assert_eq!(status(&gone.ask(&asked).await), 200);
        }
    }
    // Its contacts are reached by their URIs now.
    drop(gone);
    send(
        &mut lab.phone,
        &message("sip:user0@example.com", "boo").with("Max-Breadth: 4000000000"),
    );
    let answer = lab.phone.receive_final(seconds(30)).await.unwrap();
    assert!(status(&answer) >= 400);
    let branches = lab.engine.metrics().relay.branches;
    assert!((USERS as u64..=60).contains(&branches), "{branches}");
}

#[tokio::test(start_paused = true)]
async fn a_contact_behind_a_nat_is_reached_where_its_register_came_from() {
    let mut lab = open_lab().await;
    let mut desk = Phone::new(&lab.network, DESK);
    bind(&mut desk, "sip:bob@10.0.0.7:5060").await;
    send(&mut lab.phone, &message(BOB, "hello"));
    let copy = desk.receive_request().await.expect("over the flow");
    assert_eq!(copy.uri_text(), "sip:bob@10.0.0.7:5060");
}

#[tokio::test(start_paused = true)]
async fn a_contact_whose_socket_is_gone_is_tried_by_its_uri_and_then_480() {
    let mut lab = open_lab().await;
    let host = lab.network.host("192.0.2.21".parse().unwrap());
    let mut old = Phone::on(&host, "192.0.2.21:40000");
    bind(&mut old, "sip:bob@192.0.2.21:5060").await;
    drop(old);
    let mut desk = Phone::on(&host, DESK);
    send(&mut lab.phone, &message(BOB, "hello"));
    let copy = desk.receive_request().await.expect("by the contact's URI");
    desk.reply(&copy, 200, &[]);
    assert_eq!(status(&lab.phone.receive().await.unwrap()), 200);
    drop(desk);
    let begun = tokio::time::Instant::now();
    let again = message(BOB, "hello").call_id("again");
    send(&mut lab.phone, &again);
    let answer = lab.phone.receive_final(seconds(30)).await.unwrap();
    assert_eq!(status(&answer), 480);
    assert!(begun.elapsed() < seconds(2), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_would_not_find_its_way_is_not_passed_on() {
    let (mut lab, mut desk, mut mobile) = two_phones().await;
    send(&mut lab.phone, &message(BOB, "hello"));
    for phone in [&mut desk, &mut mobile] {
        let copy = phone.receive_request().await.unwrap();
        let vias: Vec<_> = copy.headers().vias().map(Result::unwrap).collect();
        let top = String::from_utf8_lossy(vias[0].as_bytes()).into_owned();
        let forged = copy.edit().set(HeaderName::Via, top).build().unwrap();
        phone.reply(&forged, 200, &[]);
    }
    let answer = lab.phone.receive().await.unwrap();
    assert_eq!(status(&answer), 480);
    assert_eq!(answer.headers().vias().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn contacts_that_cannot_be_sent_to_are_none() {
    let mut lab = open_lab().await;
    let mut desk = Phone::new(&lab.network, DESK);
    bind(&mut desk, "mailto:bob@example.com").await;
    bind(&mut desk, "tel:+12125550101").await;
    assert_eq!(status(&lab.phone.ask(&message(BOB, "hello")).await), 480);
    bind(&mut desk, "sip:bob@192.0.2.21").await;
    // RFC 5630 §3.3: a SIPS request goes on over TLS or not at all.
    let asked = message("sips:bob@example.com", "hello").call_id("secure");
    assert_eq!(status(&lab.phone.ask(&asked).await), 480);
}

#[tokio::test(start_paused = true)]
async fn more_than_may_be_pending_is_503() {
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .with_max_relayed(3)
    })
    .await;
    let mut desk = Phone::new(&lab.network, DESK);
    bind(&mut desk, "sip:bob@192.0.2.21").await;
    for number in 0..3 {
        send(
            &mut lab.phone,
            &message(BOB, "hello").call_id(&format!("{number}")),
        );
    }
    let copy = desk.receive_request().await.unwrap();
    assert_eq!(lab.engine.metrics().relay.pending, 3);
    let answer = lab.phone.ask(&message(BOB, "hello").call_id("more")).await;
    assert_eq!(status(&answer), 503);
    assert!(answer.headers().retry_after().unwrap().is_some());
    // One that is over makes room for one.
    desk.reply(&copy, 200, &[]);
    assert_eq!(status(&lab.phone.receive().await.unwrap()), 200);
    let room = message(BOB, "room").call_id("room");
    send(&mut lab.phone, &room);
    after(1).await;
    let metrics = lab.engine.metrics().relay;
    assert_eq!((metrics.pending, metrics.overloaded), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn one_sender_holds_a_tenth_of_what_may_be_pending_and_others_are_served() {
    let lab = lab(|config| guarded(config).with_max_relayed(100)).await;
    let mut desk = Phone::new(&lab.network, DESK);
    let bound = register(1)
        .to(BOB)
        .from(BOB)
        .contact("<sip:bob@192.0.2.21>");
    let answer = desk.ask_as(&bound, "bob", "builder").await;
    assert_eq!(status(&answer), 200);
    // From as many addresses as she likes.
    let mut refused = 0;
    for number in 0..25 {
        let mut phone = Phone::new(&lab.network, &format!("198.51.100.{number}:5060"));
        let mut asked = message(BOB, "hello").call_id(&format!("{number}"));
        let request = phone.request(&asked);
        phone.send(request.as_bytes());
        let challenge = phone.receive().await.expect("a challenge");
        asked.cseq += 1;
        let mut client = ClientAuthenticator::new(Credentials::new("alice", "wonderland"));
        let request = phone.request(&asked);
        for (name, value) in client.answer(&request, &challenge, "0a4f113b").unwrap() {
            asked = asked.with(&format!("{}: {value}", name.as_str()));
        }
        let request = phone.request(&asked);
        phone.send(request.as_bytes());
        let soon = Duration::from_millis(50);
        if let Some(Message::Response(answer)) = phone.next(soon).await {
            assert_eq!(status(&answer), 503);
            assert!(answer.headers().retry_after().unwrap().is_some());
            refused += 1;
        }
    }
    let metrics = lab.engine.metrics().relay;
    assert_eq!((refused, metrics.over_share), (15, 15));
    assert_eq!((metrics.overloaded, metrics.pending), (15, 10));
    // Somebody else's is carried.
    let mut phone = Phone::new(&lab.network, "198.51.100.99:5060");
    let asked = message(BOB, "hello").from(BOB).call_id("other");
    let answered = phone.ask_as(&asked, "bob", "builder");
    assert!(
        tokio::time::timeout(Duration::from_secs(1), answered)
            .await
            .is_err()
    );
    assert_eq!(lab.engine.metrics().relay.pending, 11);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_proves_who_it_is_the_address_has_the_share() {
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .with_max_relayed(100)
    })
    .await;
    let mut desk = Phone::new(&lab.network, DESK);
    bind(&mut desk, "sip:bob@192.0.2.21").await;
    for number in 0..10 {
        let asked = message(BOB, "hello").call_id(&format!("{number}"));
        let from = format!("sip:user{number}@example.com");
        send(&mut lab.phone, &asked.from(&from));
    }
    let asked = message(BOB, "hello").call_id("more");
    assert_eq!(status(&lab.phone.ask(&asked).await), 503);
    let mut other = Phone::new(&lab.network, MOBILE);
    send(&mut other, &asked.call_id("other"));
    after(1).await;
    assert_eq!(lab.engine.metrics().relay.pending, 11);
    // What is over makes room in the share.
    after(30).await;
    let asked = message(BOB, "hello").call_id("again");
    send(&mut lab.phone, &asked);
    after(1).await;
    assert_eq!(lab.engine.metrics().relay.pending, 1);
}

#[tokio::test(start_paused = true)]
async fn large_messages_that_wait_do_not_fill_the_memory() {
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .with_max_relayed(4)
    })
    .await;
    let mut desk = Phone::new(&lab.network, DESK);
    bind(&mut desk, "sip:bob@192.0.2.21").await;
    // Four usual ones have room, and of those that are no usual ones fewer.
    let large = "x".repeat(25_000);
    let ask = |number: u32| message(BOB, &large).call_id(&number.to_string());
    let first = send(&mut lab.phone, &ask(1));
    let answer = lab.phone.ask(&ask(2)).await;
    assert_eq!(status(&answer), 503);
    send(&mut lab.phone, &message(BOB, "small").call_id("small"));
    after(1).await;
    assert_eq!(lab.engine.metrics().relay.pending, 2);
    // What is over makes room.
    let answer = lab.phone.receive_final(seconds(30)).await.unwrap();
    assert_eq!(answer.headers().call_id(), first.headers().call_id());
    after(30).await;
    send(&mut lab.phone, &ask(3));
    after(1).await;
    assert_eq!(lab.engine.metrics().relay.pending, 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_over_a_connection_reaches_a_phone_behind_a_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut lab = open_lab().await;
    let host = lab.network.host("192.0.2.23".parse().unwrap());
    let server = SERVER.parse().unwrap();
    let mut phone = host.connect(None, server).await.unwrap();
    let asked = register(1)
        .to(BOB)
        .from(BOB)
        .contact("<sip:bob@192.0.2.23:5060;transport=tcp>");
    let via = "SIP/2.0/TCP 192.0.2.23:5060;branch=z9hG4bKtcp;rport";
    phone.write_all(asked.text(via).as_bytes()).await.unwrap();
    let mut buffer = Vec::new();
    while !buffer.ends_with(b"\r\n\r\n") {
        assert_ne!(phone.read_buf(&mut buffer).await.unwrap(), 0);
    }
    // Without Content-Length, as a datagram may be: on the connection the length has to be there.
    let request = lab.phone.request(&message(BOB, "hello"));
    let bare = String::from_utf8_lossy(request.as_bytes()).replace("Content-Length: 5\r\n", "");
    lab.phone.send(bare.as_bytes());
    buffer.clear();
    while !buffer.ends_with(b"hello") {
        assert_ne!(phone.read_buf(&mut buffer).await.unwrap(), 0);
    }
    let copy = Request::parse(buffer.clone(), &Limits::default()).unwrap();
    assert_eq!(copy.headers().content_length().unwrap(), Some(5));
    assert_eq!(copy.headers().via().unwrap().transport(), "TCP");
    let answer = sipora_message::Response::for_request(&copy, sipora_message::StatusCode::OK);
    let answer = answer.to_tag("tcp").build().unwrap();
    phone.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(status(&lab.phone.receive().await.unwrap()), 200);

    // The connection is gone, nobody listens at the contact: told at once.
    drop(phone);
    after(1).await;
    let asked = message(BOB, "hello").call_id("gone");
    send(&mut lab.phone, &asked);
    let answer = lab.phone.receive_final(seconds(30)).await.unwrap();
    assert_eq!(status(&answer), 480);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_leaves_no_sender_without_an_answer_that_a_phone_gives() {
    let (mut lab, mut desk, mut mobile) = two_phones().await;
    send(&mut lab.phone, &message(BOB, "hello"));
    let copies = (
        desk.receive_request().await.unwrap(),
        mobile.receive_request().await.unwrap(),
    );
    let engine = std::sync::Arc::clone(&lab.engine);
    let shutdown = tokio::spawn(async move { engine.shutdown().await });
    after(1).await;
    desk.reply(&copies.0, 200, &[]);
    mobile.reply(&copies.1, 200, &[]);
    assert_eq!(status(&lab.phone.receive().await.unwrap()), 200);
    shutdown.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_device_is_written_to_from_the_address_that_it_registered_at() {
    const THERE: &str = "198.51.100.1:5060";
    let network = sipora_testkit::SimNetwork::new(1);
    let there: std::net::SocketAddr = THERE.parse().unwrap();
    let host = network.host_with(&["192.0.2.1".parse().unwrap(), there.ip()]);
    let config = CallCenterConfig::new()
        .with_udp_listener("0.0.0.0:5060")
        .with_domain("example.com")
        .without_authentication()
        .with_network(std::sync::Arc::new(host));
    let _engine = sipora_call_engine::CallCenterEngine::new(config)
        .await
        .unwrap();
    let mut desk = Phone::new(&network, DESK);
    let contact = format!("<sip:bob@{DESK}>");
    let asked = desk.request(&register(1).to(BOB).contact(&contact));
    desk.send_to(asked.as_bytes(), THERE);
    assert_eq!(status(&desk.receive().await.unwrap()), 200);

    let mut phone = Phone::new(&network, PHONE);
    let asked = phone.request(&message(BOB, "hi"));
    phone.send(asked.as_bytes());
    let received = desk.receive_request().await.unwrap();
    let via = received.headers().via().unwrap();
    assert_eq!(via.host().ip(), Some(there.ip()));
    // The answer goes to where the Via says, and then on.
    let answer = sipora_message::Response::for_request(&received, sipora_message::StatusCode::OK);
    let answer = answer.to_tag("desk").build().unwrap();
    desk.send_to(answer.as_bytes(), THERE);
    assert_eq!(status(&phone.receive().await.unwrap()), 200);
    for packet in network.packets() {
        let ends = [packet.source.to_string(), packet.destination.to_string()];
        let is_desks = ends.iter().any(|end| end == DESK);
        assert_eq!(is_desks, ends.iter().any(|end| end == THERE), "{packet:?}");
    }
}
