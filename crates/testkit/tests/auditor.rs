//! What the wire auditor objects to, rule by rule, and what it lets pass.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use sipora_testkit::audit::{Auditor, Rule, Sighting};
use sipora_testkit::{SimNetwork, for_each_seed};
use sipora_transport::{
    Destination, Network, TokioNetwork, Transport, TransportConfig, Transports,
};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

const CLIENT: &str = "192.0.2.1:5060";
const SERVER: &str = "192.0.2.2:5060";

/// Two parties and what they said so far.
struct Wire {
    auditor: Auditor,
    transport: Transport,
}

impl Wire {
    fn new() -> Self {
        Self::over(Transport::Udp)
    }

    fn over(transport: Transport) -> Self {
        Self {
            auditor: Auditor::new(),
            transport,
        }
    }

    fn say(&self, source: &str, destination: &str, text: &str) {
        let text = text.replace("UDP", self.transport.as_str());
        self.auditor.see(Sighting {
            at: Duration::ZERO,
            transport: self.transport,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            bytes: text.replace('\n', "\r\n").as_bytes(),
        });
    }

    fn ask(&self, text: &str) -> &Self {
        self.say(CLIENT, SERVER, text);
        self
    }

    fn answer(&self, text: &str) -> &Self {
        self.say(SERVER, CLIENT, text);
        self
    }

    fn rules(&self) -> Vec<Rule> {
        let violations = self.auditor.violations();
        violations.iter().map(|violation| violation.rule).collect()
    }

    /// Nothing was wrong so far, and now one rule is broken.
    #[track_caller]
    fn objects(&self, to: Rule) {
        let violations = self.auditor.violations();
        assert_eq!(self.rules(), [to], "{violations:#?}");
    }

    #[track_caller]
    fn is_content(&self) -> &Self {
        assert_eq!(self.rules(), []);
        self
    }
}

fn request(method: &str, branch: &str) -> String {
    format!(
        "{method} sip:bob@192.0.2.2 SIP/2.0\n\
         Via: SIP/2.0/UDP 192.0.2.1;branch={branch};rport\n\
         Max-Forwards: 70\n\
         From: <sip:alice@example.com>;tag=a\n\
         To: <sip:bob@example.com>\n\
         Call-ID: 1\n\
         CSeq: 1 {method}\n\
         Content-Length: 0\n\n"
    )
}

fn answer(status: &str, method: &str, branch: &str) -> String {
    format!(
        "SIP/2.0 {status}\n\
         Via: SIP/2.0/UDP 192.0.2.1;branch={branch};rport=5060;received=192.0.2.1\n\
         From: <sip:alice@example.com>;tag=a\n\
         To: <sip:bob@example.com>;tag=b\n\
         Call-ID: 1\n\
         CSeq: 1 {method}\n\
         Content-Length: 0\n\n"
    )
}

fn ack(branch: &str) -> String {
    request("ACK", branch).replace(
        "To: <sip:bob@example.com>",
        "To: <sip:bob@example.com>;tag=b",
    )
}

fn invite() -> String {
    request("INVITE", "z9hG4bK1")
}

fn of_invite(status: &str) -> String {
    answer(status, "INVITE", "z9hG4bK1")
}

fn options() -> String {
    request("OPTIONS", "z9hG4bK1")
}

fn of_options(status: &str) -> String {
    answer(status, "OPTIONS", "z9hG4bK1")
}

#[test]
fn calls_as_the_rfc_has_them_pass() {
    let wire = Wire::new();
    wire.ask(&invite()).ask(&invite());
    wire.answer(&of_invite("100 Trying").replace(";tag=b", ""));
    wire.answer(&of_invite("180 Ringing"));
    let cancel = request("CANCEL", "z9hG4bK1");
    wire.ask(&cancel).ask(&cancel);
    wire.answer(&answer("200 OK", "CANCEL", "z9hG4bK1"));
    wire.answer(&of_invite("487 Request Terminated"));
    wire.answer(&of_invite("487 Request Terminated"));
    wire.ask(&ack("z9hG4bK1")).ask(&ack("z9hG4bK1"));
    wire.is_content();

    let wire = Wire::over(Transport::Tcp);
    wire.ask(&invite());
    wire.answer(&of_invite("200 OK"))
        .answer(&of_invite("200 OK"));
    wire.answer(&of_invite("200 OK").replace("tag=b", "tag=c"));
    wire.ask(&ack("z9hG4bK2")).ask(&ack("z9hG4bK2"));
    wire.say(CLIENT, SERVER, "\n\n");
    wire.is_content();
}

#[test]
fn a_request_that_a_proxy_forwards_passes() {
    let wire = Wire::new();
    wire.ask(&options());
    let via = "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2;rport\nVia: SIP/2.0/UDP 192.0.2.1";
    let forwarded = options()
        .replace("Via: SIP/2.0/UDP 192.0.2.1", via)
        .replace(": 70", ": 69");
    wire.say(SERVER, "192.0.2.3:5060", &forwarded);
    let both = "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2;rport=5060\nVia: SIP/2.0/UDP 192.0.2.1";
    let answered = of_options("200 OK").replace("Via: SIP/2.0/UDP 192.0.2.1", both);
    wire.say("192.0.2.3:5060", SERVER, &answered);
    wire.answer(&of_options("200 OK"));
    wire.is_content();
}

#[test]
fn what_is_no_message_is_objected_to() {
    let wire = Wire::new();
    wire.ask("OPTIONS sip:bob@192.0.2.2 SIP/2.0\nVia\n\n");
    wire.objects(Rule::Readable);
    let wire = Wire::new();
    wire.ask(&options().replace("CSeq: 1 OPTIONS\n", ""));
    wire.objects(Rule::Readable);
}

#[test]
fn a_branch_without_the_cookie_or_used_twice_is_objected_to() {
    let wire = Wire::new();
    wire.ask(&options().replace("z9hG4bK", ""));
    wire.objects(Rule::Branch);

    let wire = Wire::new();
    wire.ask(&options());
    wire.is_content().ask(&request("MESSAGE", "z9hG4bK1"));
    wire.objects(Rule::Branch);

    // Another sent-by makes no branch another.
    let wire = Wire::new();
    wire.ask(&options());
    wire.ask(&options().replace("UDP 192.0.2.1;", "UDP 192.0.2.9;"));
    wire.objects(Rule::Branch);
}

#[test]
fn a_via_that_names_another_transport_or_is_not_copied_is_objected_to() {
    let wire = Wire::new();
    wire.ask(&options().replace("/UDP", "/TLS"));
    wire.objects(Rule::Via);

    let wire = Wire::new();
    wire.ask(&options());
    let more = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK7\nFrom";
    wire.answer(&of_options("200 OK").replace("From", more));
    wire.objects(Rule::Via);
}

#[test]
fn max_forwards_that_is_missing_or_does_not_fall_is_objected_to() {
    let wire = Wire::new();
    wire.ask(&options().replace("Max-Forwards: 70\n", ""));
    wire.objects(Rule::MaxForwards);

    let wire = Wire::new();
    wire.ask(&options());
    let via = "Via: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2\nVia: SIP/2.0/UDP 192.0.2.1";
    let forwarded = options().replace("Via: SIP/2.0/UDP 192.0.2.1", via);
    wire.say(SERVER, "192.0.2.3:5060", &forwarded);
    wire.objects(Rule::MaxForwards);
}

#[test]
fn a_content_length_that_is_wrong_or_missing_on_a_stream_is_objected_to() {
    let without = options().replace("Content-Length: 0\n", "");
    let wire = Wire::new();
    wire.ask(&without);
    wire.is_content();
    let wire = Wire::over(Transport::Tcp);
    wire.ask(&without);
    wire.objects(Rule::ContentLength);
    // What a datagram has beyond it is no part of the message, and nothing of ours sends it.
    let wire = Wire::new();
    wire.ask(&options().replace("\n\n", "\n\nbody"));
    wire.objects(Rule::ContentLength);
}

#[test]
fn the_ack_of_a_refusal_has_to_repeat_its_invite() {
    let ack = ack("z9hG4bK1");
    let wrong = [
        ack.replace("ACK sip:bob@192.0.2.2", "ACK sip:bob@192.0.2.3"),
        ack.replace(";rport", ""),
        ack.replace("tag=a", "tag=z"),
        ack.replace("Call-ID: 1", "Call-ID: 2"),
        ack.replace("CSeq: 1", "CSeq: 2"),
        ack.replace("Max-Forwards", "Route: <sip:192.0.2.5;lr>\nMax-Forwards"),
        ack.replace("tag=b", "tag=c"),
        ack.replace("From", "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK7\nFrom"),
    ];
    for wrong in wrong {
        let wire = Wire::new();
        wire.ask(&invite());
        wire.answer(&of_invite("486 Busy Here"));
        wire.is_content().ask(&wrong);
        wire.objects(Rule::Ack);
    }
    let wire = Wire::new();
    wire.ask(&invite());
    wire.answer(&of_invite("486 Busy Here"));
    wire.say(CLIENT, "192.0.2.3:5060", &ack);
    wire.objects(Rule::Ack);
}

#[test]
fn the_ack_of_a_2xx_has_a_branch_of_its_own_and_there_is_none_without_one() {
    let wire = Wire::new();
    wire.ask(&invite());
    wire.answer(&of_invite("200 OK"));
    wire.is_content().ask(&ack("z9hG4bK1"));
    wire.objects(Rule::Ack);

    let wire = Wire::new();
    wire.ask(&invite());
    wire.answer(&of_invite("180 Ringing"));
    wire.is_content().ask(&ack("z9hG4bK2"));
    wire.objects(Rule::Ack);

    let wire = Wire::new();
    wire.ask(&invite()).ask(&request("OPTIONS", "z9hG4bK2"));
    wire.answer(&of_invite("200 OK"));
    wire.is_content().ask(&ack("z9hG4bK2"));
    wire.objects(Rule::Branch);
}

#[test]
fn a_cancel_repeats_its_request_and_waits_for_a_provisional_answer() {
    let cancel = request("CANCEL", "z9hG4bK1");
    let wire = Wire::new();
    wire.ask(&invite());
    wire.is_content().ask(&cancel);
    wire.objects(Rule::Cancel);

    let wrong = [
        request("CANCEL", "z9hG4bK2"),
        cancel.replace("CANCEL sip:bob@192.0.2.2", "CANCEL sip:bob@192.0.2.3"),
        cancel.replace(";rport", ""),
        cancel.replace(
            "To: <sip:bob@example.com>",
            "To: <sip:bob@example.com>;tag=b",
        ),
        cancel.replace("CSeq: 1", "CSeq: 2"),
        cancel.replace("Max-Forwards", "Route: <sip:192.0.2.5;lr>\nMax-Forwards"),
        cancel.replace("Max-Forwards", "Require: 100rel\nMax-Forwards"),
        cancel.replace("Max-Forwards", "Proxy-Require: x\nMax-Forwards"),
    ];
    for wrong in wrong {
        let wire = Wire::new();
        wire.ask(&invite());
        wire.answer(&of_invite("180 Ringing"));
        wire.is_content().ask(&wrong);
        wire.objects(Rule::Cancel);
    }
}

#[test]
fn what_is_sent_again_is_the_same_and_not_over_a_stream() {
    let wire = Wire::new();
    wire.ask(&options());
    wire.is_content().ask(&options().replace("70", "69"));
    wire.objects(Rule::Retransmission);

    let wire = Wire::over(Transport::Tcp);
    wire.ask(&options());
    wire.is_content().ask(&options());
    wire.objects(Rule::Retransmission);

    let wire = Wire::new();
    wire.ask(&options());
    wire.answer(&of_options("200 OK"));
    let other = of_options("200 OK").replace("Content-Length", "Server: x\nContent-Length");
    wire.is_content().answer(&other);
    wire.objects(Rule::Retransmission);
}

#[test]
fn a_challenge_that_nobody_remembers_may_have_another_nonce() {
    let challenge = |nonce: &str| {
        let line = format!("WWW-Authenticate: Digest nonce={nonce}\nContent-Length");
        of_options("401 Unauthorized").replace("Content-Length", &line)
    };
    let wire = Wire::new();
    wire.ask(&options());
    wire.answer(&challenge("1")).answer(&challenge("2"));
    wire.is_content();
}

#[test]
fn an_answer_belongs_to_a_request_and_copies_it() {
    let wire = Wire::new();
    wire.answer(&of_options("200 OK"));
    wire.objects(Rule::Answer);
    let good = of_options("200 OK");
    let wrong = [
        good.replace("tag=a", "tag=z"),
        good.replace("Call-ID: 1", "Call-ID: 2"),
        good.replace("CSeq: 1", "CSeq: 2"),
        good.replace("<sip:bob@example.com>", "<sip:eve@example.com>"),
        good.replace(";tag=b", ""),
    ];
    for wrong in wrong {
        let wire = Wire::new();
        wire.ask(&options());
        wire.is_content().answer(&wrong);
        wire.objects(Rule::Answer);
    }
    let wire = Wire::new();
    wire.auditor.waive(Rule::Dialog);
    wire.ask(&options().replace("bob@example.com>", "bob@example.com>;tag=c"));
    wire.is_content().answer(&good);
    wire.objects(Rule::Answer);
}

#[test]
fn there_is_one_final_answer_and_nothing_after_it() {
    for second in [
        of_invite("200 OK"),
        of_invite("486 Busy Here").replace("tag=b", "tag=c"),
        of_invite("180 Ringing"),
    ] {
        let wire = Wire::new();
        wire.ask(&invite());
        wire.answer(&of_invite("486 Busy Here"));
        wire.is_content().answer(&second);
        wire.objects(Rule::FinalAnswer);
    }
    let wire = Wire::new();
    wire.ask(&options());
    wire.answer(&of_options("200 OK"));
    wire.is_content().answer(&of_options("500 Oops"));
    wire.objects(Rule::FinalAnswer);
}

#[test]
fn a_request_that_is_no_invite_gets_no_ringing_and_no_408() {
    for status in ["180 Ringing", "408 Request Timeout"] {
        let wire = Wire::new();
        wire.ask(&options());
        wire.answer(&of_options("100 Trying"));
        wire.is_content().answer(&of_options(status));
        wire.objects(Rule::NonInvite);
    }
    let wire = Wire::new();
    wire.ask(&invite());
    wire.answer(&of_invite("408 Request Timeout"));
    wire.is_content();
}

#[test]
fn who_is_excused_and_what_is_waived_is_not_objected_to() {
    let bad = options().replace("Max-Forwards: 70\n", "");
    let wire = Wire::new();
    wire.auditor
        .excuse(CLIENT.parse::<SocketAddr>().unwrap().ip());
    wire.ask(&bad);
    wire.is_content()
        .say(SERVER, CLIENT, &bad.replace("bK1", "bK2"));
    wire.objects(Rule::MaxForwards);

    let wire = Wire::new();
    wire.auditor.waive(Rule::MaxForwards);
    wire.ask(&bad);
    wire.is_content();
    wire.auditor.turn_off();
    wire.ask(&options().replace("z9hG4bK", ""));
    wire.is_content();
}

#[test]
fn what_is_remembered_is_bounded() {
    let wire = Wire::new();
    for number in 0..100_010 {
        wire.ask(&request("OPTIONS", &format!("z9hG4bK-{number}")));
    }
    wire.is_content();
    wire.answer(&answer("200 OK", "OPTIONS", "z9hG4bK-100000"));
    wire.is_content();
    wire.answer(&answer("200 OK", "OPTIONS", "z9hG4bK-0"));
    wire.objects(Rule::Answer);
}

/// A request within the dialog of the call, by who called.
fn within(method: &str, cseq: u32) -> String {
    request(method, &format!("z9hG4bK-c{method}{cseq}"))
        .replace(
            "To: <sip:bob@example.com>",
            "To: <sip:bob@example.com>;tag=b",
        )
        .replace(
            &format!("CSeq: 1 {method}"),
            &format!("CSeq: {cseq} {method}"),
        )
}

/// One by who was called.
fn back(method: &str, cseq: u32) -> String {
    within(method, cseq)
        .replace("bK-c", "bK-s")
        .replace("192.0.2.1;branch", "192.0.2.2;branch")
        .replace("<sip:alice@example.com>;tag=a", "<sip:BOB>;tag=b")
        .replace(
            "<sip:bob@example.com>;tag=b",
            "<sip:alice@example.com>;tag=a",
        )
        .replace("<sip:BOB>", "<sip:bob@example.com>")
}

fn routed(message: &str, name: &str, routes: &str) -> String {
    message.replace("Call-ID:", &format!("{name}: {routes}\nCall-ID:"))
}

/// A call that is up.
fn call() -> Wire {
    let wire = Wire::new();
    wire.ask(&invite());
    wire.answer(&of_invite("180 Ringing"));
    wire.answer(&of_invite("200 OK"));
    wire.ask(&within("ACK", 1));
    wire
}

/// The 2xx to the BYE of who called.
fn of_bye(cseq: u32) -> String {
    answer("200 OK", "BYE", &format!("z9hG4bK-cBYE{cseq}"))
        .replace("CSeq: 1 BYE", &format!("CSeq: {cseq} BYE"))
}

#[test]
fn a_request_with_a_to_tag_names_a_dialog_that_was_made() {
    let wire = call();
    wire.ask(&within("INFO", 2)).answer(&back("INFO", 1));
    wire.is_content()
        .ask(&within("INFO", 3).replace("tag=b", "tag=x"));
    wire.objects(Rule::Dialog);
    let wire = call();
    wire.ask(&within("INFO", 2).replace("tag=a", "tag=x"));
    wire.objects(Rule::Dialog);
    // A refusal makes none.
    let wire = Wire::new();
    wire.ask(&invite());
    wire.answer(&of_invite("486 Busy Here"));
    wire.ask(&ack("z9hG4bK1"));
    wire.is_content().ask(&within("BYE", 2));
    wire.objects(Rule::Dialog);
    // A NOTIFY does (RFC 6665 §4.4.1).
    let wire = Wire::new();
    wire.answer(&back("NOTIFY", 7));
    wire.is_content();
}

#[test]
fn the_numbers_of_a_dialog_go_up_in_each_direction() {
    let wire = call();
    wire.ask(&within("INFO", 2)).ask(&within("INFO", 9));
    // The other side begins where it likes.
    wire.answer(&back("INFO", 4));
    wire.is_content().ask(&within("INFO", 8));
    wire.objects(Rule::Sequence);
    let wire = call();
    wire.ask(&within("INFO", 2)).ask(&within("OPTIONS", 2));
    wire.objects(Rule::Sequence);
    let wire = call();
    wire.answer(&back("INFO", 5)).answer(&back("BYE", 4));
    wire.objects(Rule::Sequence);
    // The ACK has the number of its INVITE, whatever came meanwhile, and another target gets the same number.
    let wire = Wire::new();
    wire.ask(&invite());
    wire.answer(&of_invite("200 OK"));
    wire.ask(&within("INFO", 2)).ask(&within("ACK", 1));
    wire.ask(&within("INFO", 2).replace("bK-c", "bK-again"));
    wire.is_content();
}

#[test]
fn the_route_set_of_a_dialog_is_kept() {
    let route = |message: &str, routes| routed(message, "Route", routes);
    let wire = Wire::new();
    wire.ask(&invite());
    wire.answer(&of_invite("200 OK"));
    let way = "<sip:p1.example.com;lr>, <sip:p2.example.com;lr>";
    wire.ask(&route(&within("ACK", 1), way));
    wire.ask(&route(&within("INFO", 2), way));
    wire.answer(&back("INFO", 1));
    wire.is_content()
        .ask(&route(&within("INFO", 3), "<sip:p1.example.com;lr>"));
    wire.objects(Rule::RouteSet);
    let wire = call();
    wire.ask(&within("INFO", 2));
    wire.is_content().ask(&route(&within("BYE", 3), way));
    wire.objects(Rule::RouteSet);
    // The 2xx may have another than the provisional answer.
    let wire = Wire::new();
    wire.ask(&invite());
    wire.answer(&of_invite("180 Ringing"));
    wire.ask(&within("INFO", 2));
    wire.answer(&of_invite("200 OK"));
    wire.ask(&route(&within("ACK", 1), way));
    wire.is_content();
}

#[test]
fn nothing_new_is_said_after_the_bye() {
    for method in ["INFO", "INVITE", "OPTIONS", "UPDATE"] {
        let wire = call();
        wire.ask(&within("BYE", 2));
        wire.is_content().ask(&within(method, 3));
        wire.objects(Rule::AfterBye);
        let wire = call();
        wire.ask(&within("BYE", 2));
        // It has not heard of it yet.
        wire.answer(&back(method, 1));
        wire.answer(&of_bye(2));
        wire.is_content().answer(&back(method, 2));
        wire.objects(Rule::AfterBye);
    }
    // A BYE that was refused is sent again, a 2xx still gets its ACK, and the outcome of a REFER is told.
    let wire = call();
    wire.ask(&within("BYE", 2)).ask(&within("BYE", 3));
    wire.ask(&within("ACK", 1).replace("bK-c", "bK-late"));
    wire.answer(&back("NOTIFY", 1));
    wire.answer(&of_bye(3));
    wire.answer(&back("NOTIFY", 2));
    wire.is_content();
}

/// Sends one datagram over a simulated network.
async fn send(network: &SimNetwork, text: &str) {
    let host: Arc<dyn Network> = Arc::new(network.host("192.0.2.1".parse().unwrap()));
    let (transports, _inbound) = Transports::new(host, TransportConfig::default());
    let _sockets = transports.bind_udp(CLIENT.parse().unwrap(), 1).unwrap();
    let destination = Destination::udp(SERVER.parse().unwrap());
    let flow = transports.open(&destination).await.unwrap();
    transports
        .try_send(&flow, text.replace('\n', "\r\n").into())
        .unwrap();
}

#[test]
fn a_scenario_that_breaks_a_rule_fails() {
    let bad = options().replace("Max-Forwards: 70\n", "");
    let run = |text: &str| {
        catch_unwind(AssertUnwindSafe(|| {
            for_each_seed(0..1, |network| {
                let text = text.to_owned();
                async move { send(&network, &text).await }
            })
        }))
    };
    assert!(run(&options()).is_ok());
    let objection = run(&bad).unwrap_err();
    let objection = objection.downcast_ref::<String>().unwrap();
    assert!(objection.contains("MaxForwards"), "{objection}");
}

#[tokio::test]
async fn real_traffic_that_breaks_a_rule_is_objected_to() {
    let auditor = Arc::new(Auditor::new());
    let (transports, _inbound) = Transports::with_observer(
        Arc::new(TokioNetwork::new()),
        TransportConfig::default(),
        auditor.clone(),
    );
    let mut sockets = transports
        .bind_udp("127.0.0.1:0".parse().unwrap(), 1)
        .unwrap();
    let destination = Destination::udp(sockets[0].local_addr());
    let flow = transports.open(&destination).await.unwrap();
    let wrong = options()
        .replace("Max-Forwards: 70\n", "")
        .replace('\n', "\r\n");
    transports.try_send(&flow, wrong.into()).unwrap();
    sockets[0].recv().await;
    assert_eq!(auditor.seen(), 1, "what comes was seen when it left");
    let violations = auditor.violations();
    assert_eq!(violations[0].rule, Rule::MaxForwards, "{violations:?}");
    assert_eq!(violations[0].source, sockets[0].local_addr());
}
