//! The least that any user agent pays for a call: three `recvfrom`, three `sendto`, and copying what answers have to repeat.
//!
//! `call_floor 5060` answers every INVITE with 180 and 200 and every BYE with 200, on UDP 127.0.0.1. It keeps nothing, checks
//! nothing and repeats nothing: what a user agent costs beyond it is what it does.
#![allow(clippy::print_stderr, missing_docs)]

use std::net::{SocketAddr, UdpSocket};

fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "5060".into());
    let address = format!("127.0.0.1:{port}");
    let socket = UdpSocket::bind(&address)?;
    eprintln!("listening on {address}");
    let mut received = [0; 65_536];
    let mut answer = Vec::with_capacity(2_048);
    loop {
        let (length, source) = socket.recv_from(&mut received)?;
        let request = received.get(..length).unwrap_or_default();
        // A peer that is gone is not waited for.
        if request.starts_with(b"INVITE") {
            respond(request, "180 Ringing", source, &address, "", &mut answer);
            let _ = socket.send_to(&answer, source);
            respond(request, "200 OK", source, &address, SDP, &mut answer);
            let _ = socket.send_to(&answer, source);
        } else if request.starts_with(b"BYE") {
            respond(request, "200 OK", source, &address, "", &mut answer);
            let _ = socket.send_to(&answer, source);
        }
    }
}

fn respond(
    request: &[u8],
    status: &str,
    source: SocketAddr,
    address: &str,
    body: &str,
    answer: &mut Vec<u8>,
) {
    answer.clear();
    answer.extend_from_slice(format!("SIP/2.0 {status}\r\n").as_bytes());
    for line in request.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let is = |name: &[u8]| line.starts_with(name);
        if is(b"Via:") {
            answer.extend_from_slice(line);
            answer.extend_from_slice(format!(";received={}\r\n", source.ip()).as_bytes());
        } else if is(b"To:") {
            let has_tag = line.windows(5).any(|part| part == b";tag=");
            answer.extend_from_slice(line);
            answer.extend_from_slice(if has_tag { b"\r\n" } else { b";tag=floor\r\n" });
        } else if is(b"From:") || is(b"Call-ID:") || is(b"CSeq:") {
            answer.extend_from_slice(line);
            answer.extend_from_slice(b"\r\n");
        }
    }
    answer.extend_from_slice(format!("Contact: <sip:{address}>\r\n").as_bytes());
    if !body.is_empty() {
        answer.extend_from_slice(b"Content-Type: application/sdp\r\n");
    }
    answer.extend_from_slice(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
}

const SDP: &str = "v=0\r\no=answer 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                   m=audio 9 RTP/AVP 0\r\n";
