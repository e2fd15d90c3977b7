//! RFC 4475 over TCP ("Framing" in the fixtures' README), and peers that end their connections in their own ways.

use crate::stage::{Server, builder, ip, pass};
use sipora_message::{Limits, Message, Method};
use sipora_testkit::fixtures::message;
use sipora_testkit::{SimNetwork, for_each_seed};
use sipora_transport::{Network, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// The statuses, by Call-ID, that an endpoint without users sends for these bytes, and the seconds until it closes.
async fn exchange(network: SimNetwork, bytes: &[u8]) -> (Vec<(u16, String)>, u64) {
    network.auditor().turn_off();
    let server = builder(&network, 1).build().await.unwrap();
    let mut stream = network
        .host(ip(2))
        .connect(None, "192.0.2.1:5060".parse().unwrap())
        .await
        .unwrap();
    let start = Instant::now();
    stream.write_all(bytes).await.unwrap();
    let answers = read(&mut stream).await;
    let seconds = start.elapsed().as_secs();
    drop(stream);
    pass(40).await;
    let metrics = server.handle().metrics();
    assert_eq!(metrics.server_transactions, 0);
    assert_eq!(server.handle().transport_metrics().connections_open, 0);
    (answers, seconds)
}

/// Reads until the other side closes.
async fn read(stream: &mut Box<dyn Stream>) -> Vec<(u16, String)> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let mut framer = sipora_message::StreamFramer::new(Limits::default());
    framer.push(&bytes);
    let mut answers = Vec::new();
    while let Some(frame) = framer.next() {
        let sipora_message::Frame::Message(Message::Response(response)) = frame else {
            panic!("no response but {frame:?}");
        };
        let call_id = response.headers().call_id().unwrap_or("").to_owned();
        answers.push((response.status().as_u16(), call_id));
    }
    answers
}

fn statuses(answers: &[(u16, String)]) -> Vec<u16> {
    answers.iter().map(|(status, _)| *status).collect()
}

#[test]
fn both_requests_of_dblreq_are_answered_and_what_is_left_closes_the_connection() {
    for_each_seed(0..3, |network| async move {
        let (answers, seconds) = exchange(network, &message("dblreq").bytes).await;
        assert_eq!(statuses(&answers), [405, 405]);
        assert_ne!(answers[0].1, answers[1].1, "two requests");
        assert!(seconds < 3, "{seconds}");
    });
}

#[test]
fn where_a_message_ends_nobody_knows_it_is_answered_400_and_the_connection_closes() {
    for name in ["ncl", "mcl01", "inv2543"] {
        for_each_seed(0..3, |network| async move {
            let (answers, seconds) = exchange(network, &message(name).bytes).await;
            assert_eq!(statuses(&answers), [400], "{name}");
            assert!(seconds < 3, "{name}: {seconds}");
        });
    }
}

#[test]
fn a_message_that_does_not_end_is_waited_for_and_not_answered() {
    for name in ["clerr", "baddn"] {
        for_each_seed(0..3, |network| async move {
            let (answers, seconds) = exchange(network, &message(name).bytes).await;
            assert_eq!(statuses(&answers), [0; 0], "{name}");
            assert!((10..13).contains(&seconds), "{name}: {seconds}");
        });
    }
}

#[test]
fn what_comes_after_clerr_counts_as_its_body() {
    for_each_seed(0..3, |network| async move {
        let mut bytes = message("clerr").bytes.to_vec();
        bytes.resize(bytes.len() + 9_845, b'x');
        bytes.extend_from_slice(&message("ncl").bytes);
        let (answers, _) = exchange(network, &bytes).await;
        let mut statuses = statuses(&answers);
        // Two shards may have answered.
        statuses.sort_unstable();
        assert_eq!(statuses, [400, 405]);
    });
}

#[test]
fn a_peer_that_sends_its_request_and_then_only_listens_gets_its_answer() {
    for_each_seed(0..5, |network| async move {
        let (mut server, seen) = Server::new(&[Method::Options]);
        server.mute = true;
        let mut one = builder(&network, 1);
        one.add_user(server);
        let one = one.build().await.unwrap();
        let mut stream = network
            .host(ip(2))
            .connect(None, "192.0.2.1:5060".parse().unwrap())
            .await
            .unwrap();
        let request = crate::stage::request(Method::Options, 1)
            .with_top_via("SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK1");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        pass(3).await;
        let (transaction, request) = seen.lock().unwrap().last.clone().unwrap();
        let answer =
            sipora_message::Response::for_request(&request, sipora_message::StatusCode::OK);
        let answer = answer.to_tag("x").build().unwrap();
        let outcome = one.handle().respond(transaction, answer).await;
        assert_eq!(outcome, Ok(Ok(())));
        // RFC 4320 §4.1 has nothing to say for another half second.
        assert_eq!(statuses(&read(&mut stream).await), [200]);
    });
}
