//! What an engine does with messages that nobody should send.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod common;

use std::time::Duration;

use common::watcher::{Watcher, document, publish, subscribe};
use common::*;
use sipora_message::{Frame, Limits, Message, StreamFramer};
use sipora_testkit::fixtures::{self, Torture};
use sipora_testkit::{Packet, SimNetwork};
use sipora_transport::Network;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The statuses that the server sent, but for 100.
fn answers(packets: &[Packet]) -> Vec<u16> {
    let sent = packets
        .iter()
        .filter(|packet| packet.source == SERVER.parse().unwrap());
    let statuses = sent.map(|packet| {
        match Message::parse(packet.bytes.clone(), &Limits::default()).unwrap() {
            Message::Response(response) => {
                assert!(
                    response.check().is_ok() || response.status().as_u16() >= 400,
                    "{packet}"
                );
                response.status().as_u16()
            }
            Message::Request(_) => panic!("{packet}"),
        }
    });
    statuses.filter(|status| *status != 100).collect()
}

/// What a registrar for the domains of the fixtures, which takes no calls, may answer over UDP.
fn allowed(fixture: &Torture, answers: &[u16]) -> bool {
    // A method that is not served ends the matter before what is wrong with its body or its extensions.
    let is_call = fixture.bytes.starts_with(b"INVITE ");
    let processed = |status: u16| match fixture.bytes.split(|byte| *byte == b' ').next() {
        Some(b"INVITE") => [405, 481].contains(&status),
        Some(b"MESSAGE") => [404, 480].contains(&status),
        Some(b"BYE") => status == 481,
        Some(b"REGISTER") => [200, 404].contains(&status),
        Some(b"OPTIONS") => [200, 404, 480, 481, 483].contains(&status),
        _ => status == 501,
    };
    let one_of = |accepted: &[u16]| matches!(answers, [status] if accepted.contains(status));
    let accepted = || matches!(answers, [status] if processed(*status));
    match fixture.outcome.as_str() {
        "accept" if fixture.bytes.starts_with(b"SIP/2.0 ") => answers.is_empty(),
        "accept" => accepted(),
        "drop" => answers.is_empty(),
        "400-or-accept" | "accept-or-400" => one_of(&[400]) || accepted(),
        "401-or-200" => one_of(&[401, 200]),
        "406-or-400" | "415" if is_call => one_of(&[405]),
        "406-or-400" => one_of(&[406, 400]),
        "416-or-404" => one_of(&[416, 404]),
        "501-or-400" => one_of(&[501, 400]),
        status => one_of(&[status.parse().unwrap()]),
    }
}

#[test]
fn every_torture_message_gets_what_it_is_owed_over_udp() {
    let mut wrong = Vec::new();
    println!(
        "{:32} {:14} {:14} {:10} of a UAS",
        "message", "section", "owed", "answered"
    );
    for fixture in fixtures::rfc4475().iter().chain(&fixtures::rfc5118()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let answers = runtime.block_on(async {
            let lab = lab(|config| {
                config
                    .with_domain("example.com")
                    .with_domain("example.net")
                    .with_domain("2001:db8::10")
                    .without_authentication()
            })
            .await;
            lab.phone.send(&fixture.bytes);
            tokio::time::sleep(Duration::from_secs(40)).await;
            assert_eq!(
                lab.engine.metrics().transactions.unanswered,
                0,
                "{}",
                fixture.name
            );
            answers(&lab.network.packets())
        });
        let mut row = format!(
            "{:32} {:14} {:14} {answers:?}",
            fixture.name,
            fixture.row.cell("section"),
            fixture.outcome
        );
        if !allowed(fixture, &answers) {
            row.push_str("  <-- wrong");
            wrong.push(row.clone());
        }
        println!("{row}");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A request that is in order, to see whether the connection still takes one.
const PROBE: &str = "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.99;branch=z9hG4bKprobe\r\n\
    Max-Forwards: 70\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:example.com>\r\nCall-ID: probe\r\n\
    CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

/// Sends a message and the probe over TCP; gives the statuses of the message's answers, and whether the probe had its own.
async fn answers_over_tcp(fixture: &Torture) -> (Vec<u16>, bool) {
    let lab = lab(|config| {
        config
            .with_domain("example.com")
            .with_domain("example.net")
            .with_domain("2001:db8::10")
            .without_authentication()
    })
    .await;
    lab.network.auditor().turn_off();
    let host = lab.network.host("192.0.2.99".parse().unwrap());
    let mut stream = host.connect(None, SERVER.parse().unwrap()).await.unwrap();
    stream.write_all(&fixture.bytes).await.unwrap();
    // What has no end yet would end with it.
    if fixture.name != "baddn" {
        // It may be closed by now.
        _ = stream.write_all(PROBE.as_bytes()).await;
    }
    let mut framer = StreamFramer::new(Limits::default());
    let mut bytes = [0; 4096];
    let wait = Duration::from_secs(40);
    while let Ok(Ok(length @ 1..)) = tokio::time::timeout(wait, stream.read(&mut bytes)).await {
        framer.push(&bytes[..length]);
    }
    let (mut statuses, mut is_probe_answered) = (Vec::new(), false);
    while let Some(frame) = framer.next() {
        let Frame::Message(Message::Response(response)) = frame else {
            panic!("{}: no response but {frame:?}", fixture.name);
        };
        match response.headers().call_id() {
            Ok("probe") => is_probe_answered = response.status().as_u16() == 200,
            _ => statuses.push(response.status().as_u16()),
        }
    }
    statuses.retain(|status| *status != 100);
    (statuses, is_probe_answered)
}

#[test]
fn every_torture_message_gets_what_it_is_owed_over_tcp() {
    let mut wrong = Vec::new();
    println!(
        "{:32} {:14} {:14} {:10} over a stream, and what comes next",
        "message", "section", "owed", "answered"
    );
    for fixture in fixtures::rfc4475().iter().chain(&fixtures::rfc5118()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let (answers, next) = runtime.block_on(answers_over_tcp(fixture));
        // RFC 3261 §18.3: where Content-Length cannot be trusted, nobody knows where the next message begins.
        let is_owed = match fixture.name.as_str() {
            "dblreq" => answers == [200, 405] && !next,
            "ncl" | "mcl01" | "inv2543" => answers == [400] && !next,
            "clerr" | "baddn" => answers.is_empty() && !next,
            _ => allowed(fixture, &answers) && next,
        };
        let next = if next { "answered" } else { "closed" };
        let mut row = format!(
            "{:32} {:14} {:14} {answers:?} {next}",
            fixture.name,
            fixture.row.cell("section"),
            fixture.outcome
        );
        if !is_owed {
            row.push_str("  <-- wrong");
            wrong.push(row.clone());
        }
        println!("{row}");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn what_a_contact_s_parameters_belong_to_shows_in_a_later_fetch() {
    for (name, contact) in [
        (
            "cparam01",
            "<sip:+19725552222@gw1.example.net>;unknownparam;expires=",
        ),
        (
            "cparam02",
            "<sip:+19725552222@gw1.example.net;unknownparam>;expires=",
        ),
        (
            "regescrt",
            "<sip:user@example.com?Route=%3Csip:sip.example.com%3E>;expires=",
        ),
    ] {
        let mut lab = open_lab().await;
        let fixture = fixtures::message(name);
        lab.phone.send(&fixture.bytes);
        assert_eq!(status(&lab.phone.receive().await.unwrap()), 200, "{name}");
        let message = Message::parse(fixture.bytes.clone(), &Limits::default()).unwrap();
        let to = message.headers().to().unwrap().uri().as_str().to_owned();
        let listed = contacts(&lab.phone.ask(&register(1).to(&to)).await);
        assert!(listed[0].starts_with(contact), "{name}: {listed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_nul_in_a_user_part_is_no_end_of_it() {
    let mut lab = open_lab().await;
    lab.phone.send(&fixtures::message("escnull").bytes);
    let answer = lab.phone.receive().await.unwrap();
    assert_eq!(contacts(&answer).len(), 2, "{}", text(&answer));
}

/// A message with something wrong: cut, overwritten, repeated or made up.
fn mutated(network: &SimNetwork, sources: &[Torture]) -> Vec<u8> {
    let last = sources.len() as u64 - 1;
    let source = usize::try_from(network.random(0..=last)).unwrap();
    spoiled(network, sources[source].bytes.clone())
}

fn spoiled(network: &SimNetwork, mut bytes: Vec<u8>) -> Vec<u8> {
    let random =
        |most: usize| usize::try_from(network.random(0..=most.saturating_sub(1) as u64)).unwrap();
    for _ in 0..=random(4) {
        let (from, to) = (random(bytes.len().max(1)), random(bytes.len().max(1)));
        match random(6) {
            0 => bytes.truncate(from),
            1 if !bytes.is_empty() => bytes[from] = random(256) as u8,
            2 => bytes
                .splice(from..from, b"\r\n".iter().copied())
                .for_each(drop),
            3 if from < to => bytes.drain(from..to).for_each(drop),
            4 if from < to => {
                let copy = bytes[from..to].to_vec();
                bytes.splice(from..from, copy).for_each(drop);
            }
            _ => bytes.insert(from.min(bytes.len()), b"\0\xff;<>\"%@:,= \r\n"[random(14)]),
        }
    }
    bytes.truncate(60_000);
    bytes
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_garbage_requests_leave_nothing_behind() {
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .with_user("alice", "wonderland")
    })
    .await;
    let sources: Vec<Torture> = fixtures::rfc4475()
        .into_iter()
        .chain(fixtures::rfc5118())
        .collect();
    for number in 0..10_000 {
        lab.phone.send(&mutated(&lab.network, &sources));
        if number % 100 == 99 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(lab.engine.metrics().transactions.malformed_received > 1000);
    after(60).await;
    let metrics = lab.engine.metrics().transactions;
    assert_eq!(
        (metrics.server_transactions, metrics.unanswered),
        (0, 0),
        "{metrics:?}"
    );
    assert_eq!(metrics.timer_entries, 0, "{metrics:?}");
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
    while lab.phone.receive().await.is_some() {}
    assert_eq!(
        status(&lab.phone.ask(&options("sip:example.com")).await),
        200
    );
}

#[tokio::test(start_paused = true)]
async fn garbage_over_connections_ends_the_connection_and_nothing_else() {
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .with_user("alice", "wonderland")
    })
    .await;
    let sources: Vec<Torture> = fixtures::rfc4475()
        .into_iter()
        .chain(fixtures::rfc5118())
        .collect();
    let host = lab.network.host("192.0.2.99".parse().unwrap());
    for _ in 0..300 {
        let mut stream = host.connect(None, SERVER.parse().unwrap()).await.unwrap();
        for _ in 0..5 {
            let bytes = mutated(&lab.network, &sources);
            if stream.write_all(&bytes).await.is_err() {
                break;
            }
        }
    }
    after(60).await;
    let metrics = lab.engine.metrics().transactions;
    assert_eq!(
        (metrics.server_transactions, metrics.unanswered),
        (0, 0),
        "{metrics:?}"
    );
    assert_eq!(
        status(&lab.phone.ask(&options("sip:example.com")).await),
        200
    );
}

#[tokio::test(start_paused = true)]
async fn spoiled_subscriptions_and_publications_leave_nothing_behind() {
    let mut lab = open_lab().await;
    let mut watcher = Watcher::new(&lab.network, "192.0.2.21:5060");
    watcher.watch().await;
    watcher.told(2).await.unwrap();
    for number in 0..4_000 {
        let asked = match number % 2 {
            0 => publish(number, &document("desk", "open")).with("Expires: 60"),
            _ => subscribe(&format!("call-{number}"))
                .contact("<sip:bob@192.0.2.7>")
                .with("Event: presence;id=1")
                .with("Accept: application/pidf+xml")
                .with("Expires: 60"),
        };
        let bytes = lab.phone.request(&asked).as_bytes().to_vec();
        lab.phone.send(&spoiled(&lab.network, bytes));
        if number % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // The watcher, who has done nothing wrong, hears of it all the same: some were understood.
    assert!(watcher.told(6).await.expect("a NOTIFY").presence.is_some());
    let metrics = lab.engine.metrics().presence;
    assert!(
        metrics.subscribes > 50 && metrics.publishes > 100,
        "{metrics:?}"
    );
    assert!(metrics.bad_requests > 100, "{metrics:?}");
    // An expiry may have become an hour, and nobody here answers NOTIFYs.
    while watcher.told(4_000).await.is_some() {}
    let metrics = lab.engine.metrics();
    assert_eq!(
        (
            metrics.presence.subscriptions,
            metrics.presence.publications,
            metrics.presence.publication_bytes
        ),
        (0, 0, 0)
    );
    let transactions = metrics.transactions;
    assert_eq!(
        (transactions.server_transactions, transactions.unanswered),
        (0, 0),
        "{transactions:?}"
    );
}
