//! What a call that is up holds.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use allocation_counter::measure;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sipora_dialog_core::{Body, Call, CallConfig, IncomingCalls, UnifiedDialogApi};
use sipora_transaction_core::{Endpoint, EndpointConfig};
use sipora_transport::Transport;

/// With those before them nearly as many as a map of their size takes.
const CALLS: usize = 6_500;
const T1: Duration = Duration::from_millis(30);

/// A caller that remembers nothing: each call is an INVITE, its answers and the ACK.
fn call(socket: &UdpSocket, to: SocketAddr, number: usize) {
    let own = socket.local_addr().unwrap();
    let message = |method: &str, tag: &str, body: &str| {
        format!(
            "{method} sip:bob@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{method}{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:alice@atlanta.example.com>;tag=9fxced{number}\r\n\
             To: <sip:bob@biloxi.example.com>{tag}\r\nCall-ID: 3848276298220188511{number}@atlanta\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:alice@{own}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let invite = message("INVITE", "", "v=0\r\n");
    let mut received = [0; 4096];
    socket.send_to(invite.as_bytes(), to).unwrap();
    loop {
        let Ok(length) = socket.recv(&mut received) else {
            socket.send_to(invite.as_bytes(), to).unwrap();
            continue;
        };
        let text = std::str::from_utf8(&received[..length]).unwrap();
        let is_ours = text.contains(&format!("branch=z9hG4bKINVITE{number}"));
        if text.starts_with("SIP/2.0 200") && is_ours {
            let to_line = text.lines().find(|line| line.starts_with("To:")).unwrap();
            let tag = &to_line[to_line.find(";tag=").unwrap()..];
            let ack = message("ACK", tag, "");
            socket.send_to(ack.as_bytes(), to).unwrap();
            return;
        }
    }
}

async fn up(incoming: &mut IncomingCalls, to: SocketAddr, from: usize, count: usize) -> Vec<Call> {
    let caller = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = Some(Duration::from_millis(500));
        socket.set_read_timeout(patience).unwrap();
        for number in from..from + count {
            call(&socket, to, number);
        }
    });
    let mut calls = Vec::with_capacity(count);
    while calls.len() < count {
        let mut call = incoming.next().await.unwrap();
        call.take_invite();
        call.accept(Body::new("application/sdp", "v=0\r\n"))
            .await
            .unwrap();
        // The ACK is waited for, and read.
        call.next().await.unwrap();
        calls.push(call);
    }
    caller.await.unwrap();
    calls
}

#[test]
fn a_call_that_is_up_holds_no_more_than_1_5_kib() {
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
        let warm = up(&mut incoming, address, 0, 500).await;
        transactions_end(&endpoint).await;
        (dialogs, incoming, endpoint, warm)
    });
    let address = endpoint.handle().local_addresses()[0].1;
    let mut held = Vec::new();
    let left = measure(|| {
        held = runtime.block_on(async {
            let held = up(&mut incoming, address, 500, CALLS).await;
            transactions_end(&endpoint).await;
            held
        });
    });
    let each = usize::try_from(left.bytes_current).unwrap() / CALLS;
    assert_eq!(dialogs.call_metrics().calls as usize, 500 + CALLS);
    assert!(each <= 1_536, "{each} bytes a call");
    // It is not nothing either: it was measured.
    assert!(each >= 256, "{each} bytes a call");
    drop((warm, held));
}

async fn transactions_end(endpoint: &Endpoint) {
    while endpoint.handle().metrics().server_transactions > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
