//! RFC 4475 and RFC 5118 against an endpoint without users, over UDP.
//!
//! Such an endpoint owes each request what §8.2 asks of any server: a message that is no SIP message, 400; a method that
//! it does not know, 501; and so on. Where the manifest has "accept", or an answer that only a registrar or a user agent
//! can give, it owes its default answer.

use crate::stage::{Outbox, builder, ip, pass};
use sipora_message::{Limits, Message, Method};
use sipora_testkit::fixtures::{Torture, rfc4475, rfc5118};
use sipora_testkit::for_each_seed;
use sipora_transport::{Destination, Transports};
use std::sync::Arc;

/// The statuses that are in order; none where silence is owed.
fn owed(fixture: &Torture) -> Vec<u16> {
    let (response, ack) = match Message::parse(fixture.bytes.clone(), &Limits::default()) {
        Ok(Message::Request(request)) => (false, *request.method() == Method::Ack),
        Ok(Message::Response(_)) => (true, false),
        Err(_) => (fixture.bytes.starts_with(b"SIP/2.0"), false),
    };
    if response || ack || fixture.outcome == "drop" {
        return Vec::new();
    }
    // Nobody takes these methods: 405, or 481 for one that has a To tag.
    let default = [405, 481];
    match fixture.outcome.as_str() {
        "400" if fixture.name == "unksm2" => default.to_vec(),
        "accept" | "200" | "401-or-200" | "415" | "406-or-400" => default.to_vec(),
        "400-or-accept" | "accept-or-400" => [&default[..], &[400]].concat(),
        "416-or-404" => vec![416],
        "501-or-400" => vec![501, 400],
        status => vec![status.parse().unwrap()],
    }
}

#[test]
fn torture_messages_get_the_status_that_is_owed_or_silence() {
    for_each_seed(0..1, |network| async move {
        network.auditor().turn_off();
        let outbox = Arc::new(Outbox::default());
        let server = builder(&network, 1)
            .observer(Arc::clone(&outbox) as _)
            .build()
            .await
            .unwrap();
        let (transports, _inbound) =
            Transports::new(Arc::new(network.host(ip(2))), Default::default());
        let _sockets = transports
            .bind_udp("192.0.2.2:5060".parse().unwrap(), 1)
            .unwrap();
        let flow = transports
            .open(&Destination::udp("192.0.2.1:5060".parse().unwrap()))
            .await
            .unwrap();

        let mut wrong = Vec::new();
        for fixture in rfc4475().into_iter().chain(rfc5118()) {
            transports
                .try_send(&flow, fixture.bytes.clone().into())
                .unwrap();
            pass(1).await;
            let sent: Vec<u16> = outbox
                .sent
                .lock()
                .unwrap()
                .drain(..)
                .map(|message| message.as_response().expect("a response").status().as_u16())
                .collect();
            let owed = owed(&fixture);
            let right = match &sent[..] {
                [] => owed.is_empty(),
                [status] => owed.contains(status),
                _ => false,
            };
            if !right {
                wrong.push(format!(
                    "{}: sent {sent:?}, owed {owed:?} ({})",
                    fixture.name, fixture.outcome
                ));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        pass(40).await;
        assert_eq!(server.handle().metrics().server_transactions, 0);
    });
}
