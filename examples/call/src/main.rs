//! A phone in the terminal, without sound: it calls, is called, holds, transfers and hangs up.
//!
//! Each line that is typed is a wish; what becomes of it, and what the other side does, is printed. Session descriptions are made
//! up: they name a port that nobody listens on.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::net::IpAddr;
use std::sync::Arc;

use clap::Parser;
use sipora_session_core::{
    CallEnd, CallEvent, CallHandle, CallOptions, Credentials, Error, MediaDirection,
    SessionCoordinator, SessionManagerBuilder, SipClient, StatusCode, TransferRequest,
};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Calls, and is called, in the terminal; without sound.
#[derive(Parser)]
struct Arguments {
    /// Who you are
    user: String,

    /// The port to wait at; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,

    /// The address to wait at
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,

    /// Your domain
    #[arg(long, default_value = "127.0.0.1")]
    domain: String,

    /// A proxy that calls go through
    #[arg(long)]
    proxy: Option<String>,

    /// Your password
    #[arg(long, env = "SIPORA_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

const HELP: &str = "call URI, answer, reject, redirect URI, hold, resume, hang up, transfer URI, \
                    consult URI and transfer, follow, decline, help, quit";

/// Places that a call is redirected to, at most.
const PLACES: usize = 3;

#[tokio::main]
async fn main() {
    let end = run().await.map_err(|error| eprintln!("{error}"));
    // The thread that waits for a line would keep the program from its end.
    std::process::exit(i32::from(end.is_err()));
}

async fn run() -> Result<(), Error> {
    let arguments = Arguments::parse();
    let user = &arguments.user;
    let mut builder = SessionManagerBuilder::new()
        .with_bind_address(arguments.address)
        .with_sip_port(arguments.port)
        .with_identity(&format!("sip:{user}@{}", arguments.domain))
        .with_transfers()
        .enable_sip_client();
    if let Some(proxy) = &arguments.proxy {
        builder = builder.with_outbound_proxy(proxy);
    }
    if let Some(password) = &arguments.password {
        builder = builder.with_credentials(Credentials::new(user.as_str(), password.as_str()));
    }
    let (client, mut calls) = builder.build_with_calls().await?;
    let address = client.local_address();
    println!("{user} waits at sip:{user}@{address}; type help for what can be typed");

    let mut phone = Phone {
        client,
        call: None,
        aside: None,
        wish: None,
        is_up: false,
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { break };
                if line.trim() == "quit" {
                    break;
                }
                if let Err(error) = phone.does(line.trim()).await {
                    println!("not done: {error}");
                }
            }
            Some(call) = calls.next() => phone.is_called(call).await,
            event = next(&mut phone.call) => phone.tells(event).await,
            event = next(&mut phone.aside) => phone.tells_aside(event).await,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    phone.ends().await;
    Ok(())
}

struct Phone {
    client: Arc<SessionCoordinator>,
    call: Option<CallHandle>,
    /// A call that waits while another is made, or that another has taken over from.
    aside: Option<CallHandle>,
    /// What the peer asks for.
    wish: Option<TransferRequest>,
    is_up: bool,
}

/// Waits for the next event of a call, if there is one.
async fn next(call: &mut Option<CallHandle>) -> CallEvent {
    if let Some(call) = call
        && let Some(event) = call.next().await
    {
        return event;
    }
    std::future::pending().await
}

impl Phone {
    async fn is_called(&mut self, call: CallHandle) {
        if let (Some(old), None) = (&self.call, &self.aside)
            && may_replace(&call, old)
        {
            let (who, whom) = (shown(call.remote_uri()), shown(old.remote_uri()));
            let answer = answer_to(call.sdp(), &self.description());
            if call.accept_replacing(&answer).await.is_ok() {
                println!("{who} takes the place of {whom}");
                // The old one ends now.
                self.aside = self.call.replace(call);
            }
            return;
        }
        let refused = match &self.call {
            Some(_) => call.reject(StatusCode::BUSY_HERE).await,
            None => call.ring().await,
        };
        // One that cannot be answered any more was cancelled.
        if refused.is_ok() && self.call.is_none() {
            println!("{} calls; answer?", shown(call.remote_uri()));
            self.call = Some(call);
        }
    }

    async fn does(&mut self, wish: &str) -> Result<(), Error> {
        let (verb, rest) = wish.split_once(' ').unwrap_or((wish, ""));
        match (verb, &self.call) {
            ("", _) => {}
            ("call", None) => {
                let options = CallOptions::new()
                    .with_sdp(self.description())
                    .follow_redirects(PLACES);
                self.call = Some(self.client.call_with(rest, options).await?);
                println!("calling {rest}");
            }
            ("answer", Some(call)) => {
                let answer = answer_to(call.sdp(), &self.description());
                call.accept(&answer).await?;
            }
            ("reject", Some(call)) => call.reject(StatusCode::BUSY_HERE).await?,
            ("redirect", Some(call)) => call.redirect(&[rest]).await?,
            ("hold", Some(call)) => call.hold().await?,
            ("resume", Some(call)) => call.resume().await?,
            ("hang", Some(call)) => call.hang_up().await?,
            ("transfer", Some(call)) if !rest.is_empty() => {
                call.transfer(rest).await?;
                println!("the peer goes along");
            }
            ("transfer", Some(call)) => match &self.aside {
                Some(aside) => {
                    aside.transfer_to(call).await?;
                    println!("the peer goes along");
                }
                None => println!("transfer to whom? consult somebody first, or name a URI"),
            },
            ("consult", Some(call)) if self.aside.is_none() => {
                call.hold().await?;
                self.aside = self.call.take();
                self.is_up = false;
                let options = CallOptions::new().with_sdp(self.description());
                self.call = Some(self.client.call_with(rest, options).await?);
                println!("calling {rest}");
            }
            ("follow", Some(call)) if self.wish.is_some() && self.aside.is_none() => {
                if let Some(wish) = self.wish.take() {
                    let options = CallOptions::new().with_sdp(self.description());
                    let new = call.follow(&wish, options).await?;
                    println!("calling {}", shown(new.remote_uri()));
                    // The old call is the peer's to end.
                    self.aside = self.call.replace(new);
                }
            }
            ("decline", Some(call)) => {
                if let Some(wish) = self.wish.take() {
                    call.refuse_transfer(&wish, StatusCode::DECLINE).await?;
                }
            }
            ("call", Some(_)) => println!("there is a call already"),
            (
                "answer" | "reject" | "redirect" | "hold" | "resume" | "hang" | "transfer"
                | "consult" | "follow" | "decline",
                None,
            ) => println!("there is no call"),
            _ => println!("{HELP}"),
        }
        Ok(())
    }

    async fn tells(&mut self, event: CallEvent) {
        match &event {
            CallEvent::Progress(answer) => {
                println!("{} {}", answer.status(), shown(&answer.reason()));
            }
            CallEvent::Redirected(place) => println!("sent on to {}", shown(place.as_str())),
            CallEvent::Answered(answer) => {
                self.is_up = true;
                println!(
                    "{} {}: the call is up",
                    answer.status(),
                    shown(&answer.reason())
                );
            }
            CallEvent::Acknowledged(_) if !self.is_up => {
                println!("the call is up");
                self.is_up = true;
            }
            CallEvent::ChangeRequested(_) => self.changes(event.sdp()).await,
            CallEvent::TransferRequested(wish) => self.is_asked(wish.clone()),
            CallEvent::TransferProgress(_) => tells_of_transfer(self.call.as_ref(), &event).await,
            // What is not received any more is held by us.
            CallEvent::Changed(_) => match event.sdp().map(MediaDirection::of) {
                Some(theirs) if theirs.sends() => println!("resumed"),
                _ => println!("held"),
            },
            CallEvent::ChangeRefused(answer) => {
                println!("refused: {} {}", answer.status(), shown(&answer.reason()));
            }
            CallEvent::Ended(end) => {
                println!("over: {}", told(end));
                self.call = None;
                self.is_up = false;
            }
            _ => {}
        }
    }

    /// What happens in the call that waits, or is about to end.
    async fn tells_aside(&mut self, event: CallEvent) {
        match &event {
            CallEvent::TransferProgress(_) => tells_of_transfer(self.aside.as_ref(), &event).await,
            CallEvent::Changed(_) => println!("held"),
            CallEvent::ChangeRequested(_) | CallEvent::TransferRequested(_) => {
                // One thing at a time.
                if let Some(aside) = &self.aside {
                    let _ = aside.reject(StatusCode::NOT_ACCEPTABLE_HERE).await;
                }
            }
            CallEvent::Ended(end) => {
                println!("aside, over: {}", told(end));
                self.aside = None;
            }
            _ => {}
        }
    }

    /// Who is asked to call somebody decides: whom it costs what is not the peer's to say.
    fn is_asked(&mut self, wish: TransferRequest) {
        let target = wish.target();
        let whom = target.as_ref().map_or("nobody", |target| target.as_str());
        let whom = whom.split('?').next().unwrap_or_default();
        println!(
            "the peer sends you on to {}; follow or decline?",
            shown(whom)
        );
        self.wish = Some(wish);
    }

    /// Goes along with what the peer wants to change.
    async fn changes(&self, offer: Option<&str>) {
        let Some(call) = &self.call else { return };
        let answer = answer_to(offer, &self.description());
        match call.accept(&answer).await {
            Ok(()) if offer.is_some_and(|offer| !MediaDirection::of(offer).receives()) => {
                println!("the peer holds");
            }
            Ok(()) => println!("the peer resumes"),
            Err(error) => println!("not changed: {error}"),
        }
    }

    async fn ends(mut self) {
        if let Some(aside) = &mut self.aside
            && aside.hang_up().await.is_ok()
        {
            println!("aside, over: {}", told(&aside.ended().await));
        }
        if let Some(call) = &mut self.call
            && call.hang_up().await.is_ok()
        {
            println!("over: {}", told(&call.ended().await));
        }
        self.client.shutdown().await;
    }

    /// A session without media: port 9 discards what it gets.
    fn description(&self) -> String {
        let ip = self.client.local_address().ip();
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
             m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        )
    }
}

/// Only who is sent by whom we are talking to, as far as From and Referred-By can be believed (RFC 3891 §3).
fn may_replace(new: &CallHandle, old: &CallHandle) -> bool {
    let by = new.referred_by().unwrap_or_default();
    new.replaces() == Some(old.key()) && by == format!("<{}>", old.remote_uri())
}

/// Says what came of a transfer; the call that asked for it has done its part when it has succeeded.
async fn tells_of_transfer(call: Option<&CallHandle>, event: &CallEvent) {
    let (Some(call), CallEvent::TransferProgress(report)) = (call, event) else {
        return;
    };
    match report.status {
        _ if !report.is_over => {}
        Some(_) if report.has_succeeded() => {
            println!("transferred");
            let _ = call.hang_up().await;
        }
        Some(status) => println!("not transferred: {status}"),
        None => println!("not transferred, as it seems"),
    }
}

/// Takes an offer as it is: who is held only receives. The version in `o=` is for `accept` to count.
fn answer_to(offer: Option<&str>, own: &str) -> String {
    match offer {
        Some(offer) => MediaDirection::of(offer).reversed().in_sdp(own),
        None => own.to_owned(),
    }
}

fn told(end: &CallEnd) -> String {
    match end {
        CallEnd::Failed(error) => shown(&error.to_string()),
        CallEnd::HungUp => "hung up".to_owned(),
        CallEnd::PeerHungUp(_) => "the peer hung up".to_owned(),
        CallEnd::PeerCancelled(_) if end.was_answered_elsewhere() => {
            "answered elsewhere".to_owned()
        }
        CallEnd::Cancelled | CallEnd::PeerCancelled(_) => "cancelled".to_owned(),
        CallEnd::Rejected => "refused".to_owned(),
        CallEnd::Replaced(_) => "another has taken its place".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Keeps a peer's control characters out of the terminal.
fn shown(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}
