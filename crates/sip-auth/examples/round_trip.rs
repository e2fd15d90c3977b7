//! Shows a challenge, its answer, an unasked refresh, a replay, an expired nonce and a wrong password, as header fields.
//!
//! `cargo run -p sipora-auth --example round_trip`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::{Duration, SystemTime};

use sipora_auth::{
    Algorithm, Authenticator, AuthenticatorConfig, ClientAuthenticator, Credentials, Secret,
    Verdict,
};
use sipora_message::{HeaderName, Limits, Request, Response};

type Lines = Vec<(HeaderName, String)>;

fn main() -> Result<(), Box<dyn Error>> {
    let config = AuthenticatorConfig::new("example.com")
        .algorithms([Algorithm::Sha256, Algorithm::Md5])
        .nonce_lifetime(Duration::from_secs(300));
    // A real server takes its key from a random source, and a real client each cnonce.
    let server = Authenticator::new([0x5a; 32], config);
    let mut alice = ClientAuthenticator::new(Credentials::new("alice", "wonderland"));
    let mut mallory = ClientAuthenticator::new(Credentials::new("alice", "guess"));
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);

    println!("-- without credentials");
    let first = register(1, &Vec::new())?;
    let challenge = answer(&server, start, &first)?;

    println!("-- with the answer to the challenge");
    let second = register(2, &alice.answer(&first, &challenge, "6b8b4567")?)?;
    answer(&server, start, &second)?;

    println!("-- a refresh, authenticated before anybody asks");
    let refresh = register(3, &alice.preempt(&register(3, &Vec::new())?, "327b23c6"))?;
    answer(&server, start + Duration::from_secs(60), &refresh)?;

    println!("-- somebody has captured the refresh and sends it again");
    answer(&server, start + Duration::from_secs(61), &refresh)?;

    println!("-- a refresh an hour later: right digest, old nonce");
    let late = start + Duration::from_secs(3_600);
    let refresh = register(4, &alice.preempt(&register(4, &Vec::new())?, "643c9869"))?;
    let challenge = answer(&server, late, &refresh)?;
    let retry = register(5, &alice.answer(&refresh, &challenge, "66334873")?)?;
    answer(&server, late, &retry)?;

    println!("-- a wrong password");
    let first = register(6, &Vec::new())?;
    let challenge = answer(&server, late, &first)?;
    let second = register(7, &mallory.answer(&first, &challenge, "74b0dc51")?)?;
    let challenge = answer(&server, late, &second)?;
    match mallory.answer(&second, &challenge, "19495cff") {
        Ok(_) => Err("a wrong password was sent twice".into()),
        Err(error) => {
            println!("client gives up: {error}");
            Ok(())
        }
    }
}

/// Judges a request as a registrar does, and prints both.
fn answer(
    server: &Authenticator,
    now: SystemTime,
    request: &Request,
) -> Result<Response, Box<dyn Error>> {
    println!("> {} {}", request.method(), request.uri_text());
    for value in request.headers().all(&HeaderName::Authorization) {
        println!("> Authorization: {}", String::from_utf8_lossy(value));
    }
    let users =
        |_realm: &str, name: &str| (name == "alice").then(|| Secret::password("wonderland"));
    let (status, lines) = match server.verify(now, request, &users, |_| false) {
        Verdict::Accepted(_) => ("200 OK", Lines::new()),
        Verdict::Challenge { stale, .. } => {
            ("401 Unauthorized", server.challenge(now, request, stale))
        }
        _ => ("400 Bad Request", Lines::new()),
    };
    println!("< {status}");
    for (name, value) in &lines {
        println!("< {}: {value}", name.as_str());
    }
    println!();
    let text = format!("SIP/2.0 {status}\r\n{}", rest(1, &lines));
    Ok(Response::parse(text.into_bytes(), &Limits::default())?)
}

fn register(number: u32, lines: &Lines) -> Result<Request, Box<dyn Error>> {
    let text = format!(
        "REGISTER sip:example.com SIP/2.0\r\n{}",
        rest(number, lines)
    );
    Ok(Request::parse(text.into_bytes(), &Limits::default())?)
}

fn rest(number: u32, lines: &Lines) -> String {
    let mut text = format!(
        "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{number}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=456248\r\n\
         To: <sip:alice@example.com>\r\n\
         Call-ID: 843817637684230@192.0.2.1\r\n\
         CSeq: {number} REGISTER\r\n"
    );
    for (name, value) in lines {
        text.push_str(&format!("{}: {value}\r\n", name.as_str()));
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    text
}
