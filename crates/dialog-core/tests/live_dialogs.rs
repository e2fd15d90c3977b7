//! What a call that is up holds.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use allocation_counter::measure;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sipora_dialog_core::{Body, Call, CallConfig, CallEvent, IncomingCalls, UnifiedDialogApi};
use sipora_message::StatusCode;
use sipora_transaction_core::{Endpoint, EndpointConfig};
use sipora_transport::Transport;

/// With those before them nearly as many as a map of their size takes.
const CALLS: usize = 6_500;
/// What is kept for 64*T1 is gone soon, and a busy machine still answers within that.
const T1: Duration = Duration::from_millis(100);

/// What a call has.
#[derive(Clone, Copy)]
enum Kind {
    Plain,
    /// Two proxies in the route set, a reliable provisional answer that was acknowledged, a session timer, and a description of
    /// the usual length for its refreshes.
    Full,
}

/// A caller that remembers nothing: each call is an INVITE, its answers, a PRACK if it is asked for, and the ACK.
fn call(socket: &UdpSocket, to: SocketAddr, number: usize, kind: Kind) {
    let own = socket.local_addr().unwrap();
    let message = |method: &str, cseq: u32, tag: &str, lines: &str, body: &str| {
        format!(
            "{method} sip:bob@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{method}{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:alice@atlanta.example.com>;tag=9fxced{number}\r\n\
             To: <sip:bob@biloxi.example.com>{tag}\r\nCall-ID: 3848276298220188511{number}@atlanta\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:alice@{own}>\r\n{lines}Content-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let lines = match kind {
        Kind::Plain => "",
        Kind::Full => {
            "Record-Route: <sip:proxy2.biloxi.example.com;lr>\r\nRecord-Route: <sip:proxy1.atlanta.example.com;lr>\r\n\
             Supported: 100rel, timer\r\nSession-Expires: 1800;refresher=uac\r\n\
             Allow: INVITE, ACK, CANCEL, BYE, PRACK, UPDATE\r\n"
        }
    };
    let invite = message("INVITE", 1, "", lines, "v=0\r\n");
    let mut received = [0; 4096];
    socket.send_to(invite.as_bytes(), to).unwrap();
    loop {
        let Ok(length) = socket.recv(&mut received) else {
            socket.send_to(invite.as_bytes(), to).unwrap();
            continue;
        };
        let text = std::str::from_utf8(&received[..length]).unwrap();
        if !text.contains(&format!("branch=z9hG4bKINVITE{number}\r")) {
            continue;
        }
        let line = |name: &str| text.lines().find(|line| line.starts_with(name));
        let to_line = line("To:").unwrap();
        let tag = to_line.find(";tag=").map_or("", |at| &to_line[at..]);
        if let Some(rseq) = line("RSeq: ") {
            let acknowledged = format!("RAck: {} 1 INVITE\r\n", &rseq[6..]);
            let prack = message("PRACK", 2, tag, &acknowledged, "");
            socket.send_to(prack.as_bytes(), to).unwrap();
        } else if text.starts_with("SIP/2.0 200") {
            let ack = message("ACK", 1, tag, "", "");
            socket.send_to(ack.as_bytes(), to).unwrap();
            return;
        }
    }
}

async fn up(
    incoming: &mut IncomingCalls,
    to: SocketAddr,
    kind: Kind,
    from: usize,
    count: usize,
) -> Vec<Call> {
    let caller = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = Some(Duration::from_millis(500));
        socket.set_read_timeout(patience).unwrap();
        for number in from..from + count {
            call(&socket, to, number, kind);
        }
    });
    let mut calls = Vec::with_capacity(count);
    while calls.len() < count {
        let mut call = incoming.next().await.unwrap();
        call.take_invite();
        match kind {
            Kind::Plain => call.accept(body("v=0\r\n")).await.unwrap(),
            Kind::Full => {
                let status = StatusCode::SESSION_PROGRESS;
                call.progress_reliably(status, Some(body(SDP)))
                    .await
                    .unwrap();
                call.accept(None).await.unwrap();
                // Its PRACK is read, and then the ACK.
                let event = call.next().await.unwrap();
                assert!(matches!(event, CallEvent::ProgressAcknowledged(_)));
            }
        }
        let event = call.next().await.unwrap();
        assert!(matches!(event, CallEvent::Acknowledged(_)));
        calls.push(call);
    }
    caller.await.unwrap();
    calls
}

/// As who makes each description anew has it.
fn body(sdp: &str) -> Body {
    Body::new("application/sdp", sdp.to_owned())
}

const SDP: &str = "v=0\r\no=bob 2890844527 2890844527 IN IP4 client.biloxi.example.com\r\ns=-\r\n\
                   c=IN IP4 192.0.2.201\r\nt=0 0\r\nm=audio 3456 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\n\
                   a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n";

#[test]
fn a_call_that_is_up_holds_no_more_than_1_5_kib() {
    let each = held_by_each(Kind::Plain);
    assert!(each <= 1_536, "{each} bytes a call");
    // It is not nothing either: it was measured.
    assert!(each >= 256, "{each} bytes a call");
}

#[test]
fn a_call_with_a_route_set_prack_and_a_session_timer_holds_no_more_than_that() {
    let each = held_by_each(Kind::Full);
    assert!(each <= 1_536, "{each} bytes a call");
}

/// The bytes that a call holds when its transactions are over.
fn held_by_each(kind: Kind) -> usize {
    let mut settings = EndpointConfig::default();
    settings.transactions.timers.t1 = T1;
    let mut config = CallConfig::default();
    config.t1 = T1;
    // What is held is counted by thread: all is done on this one, but for the caller.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (dialogs, mut incoming, endpoint, warm) = runtime.block_on(async {
        let mut builder = Endpoint::builder()
            .config(settings)
            .listen(Transport::Udp, "127.0.0.1:0".parse().unwrap());
        let (dialogs, mut incoming) = UnifiedDialogApi::add_with_calls(&mut builder, config);
        let endpoint = builder.build().await.unwrap();
        let address = endpoint.handle().local_addresses()[0].1;
        // Pools and buffers have their size then.
        let warm = up(&mut incoming, address, kind, 0, 500).await;
        transactions_end(&endpoint).await;
        (dialogs, incoming, endpoint, warm)
    });
    let address = endpoint.handle().local_addresses()[0].1;
    let mut held = Vec::new();
    let left = measure(|| {
        held = runtime.block_on(async {
            let held = up(&mut incoming, address, kind, 500, CALLS).await;
            transactions_end(&endpoint).await;
            held
        });
    });
    let each = usize::try_from(left.bytes_current).unwrap() / CALLS;
    assert_eq!(dialogs.call_metrics().calls as usize, 500 + CALLS);
    drop((warm, held));
    each
}

async fn transactions_end(endpoint: &Endpoint) {
    while endpoint.handle().metrics().server_transactions > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
