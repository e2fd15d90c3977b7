//! The least that any server pays for a REGISTER: one `recvfrom`, one `sendto`, and copying what an answer has to repeat.
//!
//! `floor 127.0.0.1:5060` answers every REGISTER with 200 and its Contact; `floor 127.0.0.1:5060 digest` answers one without
//! Authorization with 401. It keeps nothing and checks nothing: what a registrar costs beyond it is what it does.
#![allow(clippy::print_stderr, missing_docs)]

use std::net::{SocketAddr, UdpSocket};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:5060".into());
    let digest = arguments.next().is_some_and(|word| word == "digest");
    let socket = UdpSocket::bind(&address)?;
    eprintln!("listening on {address}");
    let mut received = [0; 65_536];
    let mut answer = Vec::with_capacity(2_048);
    loop {
        let (length, source) = socket.recv_from(&mut received)?;
        let request = received.get(..length).unwrap_or_default();
        respond(request, source, digest, &mut answer);
        // A peer that is gone is not waited for.
        let _ = socket.send_to(&answer, source);
    }
}

fn respond(request: &[u8], source: SocketAddr, digest: bool, answer: &mut Vec<u8>) {
    answer.clear();
    let lines = || request.split(|byte| *byte == b'\n');
    let challenges = digest && !lines().any(|line| line.starts_with(b"Authorization:"));
    answer.extend_from_slice(match challenges {
        true => b"SIP/2.0 401 Unauthorized\r\n",
        false => b"SIP/2.0 200 OK\r\n",
    });
    for line in lines() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is = |name: &[u8]| line.starts_with(name);
        if is(b"Via:") {
            answer.extend_from_slice(line);
            answer.extend_from_slice(format!(";received={}\r\n", source.ip()).as_bytes());
        } else if is(b"To:") {
            answer.extend_from_slice(line);
            answer.extend_from_slice(b";tag=floor\r\n");
        } else if is(b"From:")
            || is(b"Call-ID:")
            || is(b"CSeq:")
            || (is(b"Contact:") && !challenges)
        {
            answer.extend_from_slice(line);
            answer.extend_from_slice(b"\r\n");
        }
    }
    if challenges {
        answer.extend_from_slice(CHALLENGE);
    }
    answer.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

const CHALLENGE: &[u8] =
    b"WWW-Authenticate: Digest realm=\"127.0.0.1\", nonce=\"6f2c1d7b9a3e4f58\", \
                           algorithm=MD5, qop=\"auth\"\r\n";
