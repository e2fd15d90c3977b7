//! Messages for the tests of this folder.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    dead_code,
    unreachable_pub
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sipora_auth::{
    Authenticator, AuthenticatorConfig, Challenge, ClientAuthenticator, Credentials,
    DigestResponse, Secret, Verdict,
};
use sipora_message::{HeaderName, Limits, Request, Response, UriRef};

pub const URI: &str = "sip:registrar.example.com";
pub const REALM: &str = "example.com";
pub const KEY: [u8; 32] = [7; 32];

pub type Lines = Vec<(HeaderName, String)>;

/// A request; `n` numbers its CSeq and branch, as a client does for each try.
#[derive(Clone)]
pub struct Draft {
    pub method: &'static str,
    pub uri: &'static str,
    pub call_id: &'static str,
    pub body: &'static str,
    pub n: u32,
}

pub const REGISTER: Draft = Draft {
    method: "REGISTER",
    uri: URI,
    call_id: "call-1@example.com",
    body: "",
    n: 1,
};

impl Draft {
    pub fn with(&self, lines: &[(HeaderName, String)]) -> Request {
        let lines: Vec<(&str, &[u8])> = lines
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        self.with_bytes(&lines)
    }

    pub fn with_bytes(&self, lines: &[(&str, &[u8])]) -> Request {
        let Draft {
            method,
            uri,
            call_id,
            body,
            n,
        } = self;
        let mut bytes = format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{n}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:alice@example.com>;tag=a\r\n\
             To: <sip:alice@example.com>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {n} {method}\r\n"
        )
        .into_bytes();
        for (name, value) in lines {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend(format!("Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes());
        Request::parse(bytes, &Limits::default()).expect("a request")
    }

    pub fn bare(&self) -> Request {
        self.with(&[])
    }
}

pub fn response(status: u16, lines: &[(HeaderName, String)]) -> Response {
    let mut text = format!(
        "SIP/2.0 {status} Whatever\r\n\
         Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\n\
         From: <sip:alice@example.com>;tag=a\r\n\
         To: <sip:alice@example.com>;tag=b\r\n\
         Call-ID: call-1@example.com\r\n\
         CSeq: 1 REGISTER\r\n"
    );
    for (name, value) in lines {
        text.push_str(&format!("{}: {value}\r\n", name.as_str()));
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    Response::parse(text.into_bytes(), &Limits::default()).expect("a response")
}

pub fn www(value: &str) -> (HeaderName, String) {
    (HeaderName::WwwAuthenticate, value.to_owned())
}

pub fn proxy(value: &str) -> (HeaderName, String) {
    (HeaderName::ProxyAuthenticate, value.to_owned())
}

/// Reads credentials that a client printed.
pub fn answer(line: &(HeaderName, String)) -> DigestResponse {
    let request = REGISTER.with(std::slice::from_ref(line));
    let mut values = request.headers().credentials(&line.0);
    let value = values.next().expect("a value").expect("our own output");
    DigestResponse::try_from(value).expect("our own output")
}

/// Reads a challenge that a server printed.
pub fn challenge(line: &(HeaderName, String)) -> Challenge {
    let response = response(401, std::slice::from_ref(line));
    let mut values = response.headers().challenges(&line.0);
    let value = values.next().expect("a value").expect("our own output");
    Challenge::try_from(value).expect("our own output")
}

pub fn client() -> ClientAuthenticator {
    ClientAuthenticator::new(Credentials::new("alice", "wonderland"))
}

pub fn server(config: AuthenticatorConfig) -> Authenticator {
    Authenticator::new(KEY, config)
}

pub fn config() -> AuthenticatorConfig {
    AuthenticatorConfig::new(REALM)
}

/// Knows alice and zoë.
pub fn users(_realm: &str, username: &str) -> Option<Secret> {
    match username {
        "alice" => Some(Secret::password("wonderland")),
        "zoë \"z\" \\" => Some(Secret::password("café: noir")),
        _ => None,
    }
}

pub fn nothing_else(_: &UriRef<'_>) -> bool {
    false
}

/// The time of the tests, in seconds from an arbitrary start.
pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

pub fn verify(server: &Authenticator, now: u64, request: &Request) -> Verdict {
    server.verify(at(now), request, &users, nothing_else)
}

/// Challenges `draft` at `now` and gives the client's answer, without verifying it.
pub fn answered(
    server: &Authenticator,
    client: &mut ClientAuthenticator,
    now: u64,
    draft: &Draft,
) -> Lines {
    let bare = draft.bare();
    let challenge = response(401, &server.challenge(at(now), &bare, false));
    client
        .answer(&bare, &challenge, "0a4f113b")
        .expect("an answer")
}
