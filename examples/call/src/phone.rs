//! What the user wants, what becomes of it, and what the other side does.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use sipora_session_core::{
    CallEnd, CallEvent, CallHandle, CallOptions, Error, MediaDirection, SessionCoordinator,
    SipClient, SipResponse, StatusCode, TransferReport, TransferRequest,
};
use tokio::io::{BufReader, Lines, Stdin};

pub(crate) type Keyboard = Lines<BufReader<Stdin>>;

const HELP: &str = "call URI, answer, reject, redirect URI, hold, resume, hang up, transfer URI, \
                    consult URI and transfer, follow, decline, help, quit";

/// Places that a call is redirected to, at most.
const PLACES: usize = 3;

pub(crate) struct Phone {
    client: Arc<SessionCoordinator>,
    pub(crate) call: Option<Talk>,
    /// A call that waits while another is made, or that another has taken over from.
    pub(crate) aside: Option<Talk>,
    /// What the peer asks for.
    wish: Option<TransferRequest>,
}

/// A call, and how it stands.
pub(crate) struct Talk {
    call: CallHandle,
    is_up: bool,
    /// We hold the peer.
    holds: bool,
    /// Whether we shall, once the peer has agreed.
    shall_hold: bool,
}

impl Talk {
    fn new(call: CallHandle) -> Self {
        Self {
            call,
            is_up: false,
            holds: false,
            shall_hold: false,
        }
    }

    async fn hold(&mut self) -> Result<(), Error> {
        self.call.hold().await?;
        self.shall_hold = true;
        Ok(())
    }

    async fn resume(&mut self) -> Result<(), Error> {
        self.call.resume().await?;
        self.shall_hold = false;
        Ok(())
    }

    /// The peer has agreed.
    fn has_changed(&mut self) {
        self.holds = self.shall_hold;
        println!("{}", if self.holds { "held" } else { "resumed" });
    }

    /// Goes along with what the peer wants to change.
    async fn changes(&self, offer: Option<&str>, own: &str) {
        let answer = self.answer_to(offer, own);
        let Some(offer) = offer else {
            // It asks what we say of the session, which stays as it is.
            let _ = self.call.accept(&answer).await;
            return;
        };
        match self.call.accept(&answer).await {
            Ok(()) if !MediaDirection::of(offer).receives() => println!("the peer holds"),
            Ok(()) => println!("the peer resumes"),
            Err(error) => println!("not changed: {error}"),
        }
    }

    /// What we say to an offer, or without one: whoever is held only receives, and whom we hold sends nothing. The version in `o=` is
    /// for `accept` to count.
    fn answer_to(&self, offer: Option<&str>, own: &str) -> String {
        let wanted = offer.map_or(MediaDirection::SendRecv, |offer| {
            MediaDirection::of(offer).reversed()
        });
        let direction = match (self.holds, wanted.sends()) {
            (false, _) => wanted,
            (true, true) => MediaDirection::SendOnly,
            (true, false) => MediaDirection::Inactive,
        };
        direction.in_sdp(own)
    }
}

/// Waits for the next event of a call, if there is one.
pub(crate) async fn next(talk: &mut Option<Talk>) -> CallEvent {
    if let Some(talk) = talk
        && let Some(event) = talk.call.next().await
    {
        return event;
    }
    std::future::pending().await
}

/// A line; where there are no more, the user has gone.
pub(crate) fn typed(line: io::Result<Option<String>>) -> String {
    let line = line.ok().flatten();
    line.map_or_else(|| "quit".to_owned(), |line| line.trim().to_owned())
}

impl Phone {
    pub(crate) fn new(client: Arc<SessionCoordinator>) -> Self {
        Self {
            client,
            call: None,
            aside: None,
            wish: None,
        }
    }

    pub(crate) async fn is_called(&mut self, call: CallHandle) {
        if let (Some(Talk { call: old, .. }), None) = (&self.call, &self.aside)
            && may_replace(&call, old)
        {
            let (who, whom) = (shown(call.remote_uri()), shown(old.remote_uri()));
            let mut new = Talk::new(call);
            let answer = new.answer_to(new.call.sdp(), &self.description());
            if new.call.accept_replacing(&answer).await.is_ok() {
                println!("{who} takes the place of {whom}");
                // The old one ends now.
                new.is_up = true;
                self.aside = self.call.replace(new);
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
            self.call = Some(Talk::new(call));
        }
    }

    /// Does what was typed; breaks where the user wants no more. What takes long listens to the keyboard meanwhile.
    pub(crate) async fn does(
        &mut self,
        wish: &str,
        keyboard: &mut Keyboard,
    ) -> Result<ControlFlow<()>, Error> {
        let (verb, rest) = wish.split_once(' ').unwrap_or((wish, ""));
        let own = self.description();
        match (verb, &mut self.call) {
            ("", _) => {}
            ("quit", _) => return Ok(ControlFlow::Break(())),
            ("call", None) => {
                let options = CallOptions::new().with_sdp(own).follow_redirects(PLACES);
                let call = self.client.call_with(rest, options).await?;
                self.call = Some(Talk::new(call));
                println!("calling {rest}");
            }
            ("answer", Some(talk)) => {
                let answer = talk.answer_to(talk.call.sdp(), &own);
                talk.call.accept(&answer).await?;
            }
            ("reject", Some(talk)) => talk.call.reject(StatusCode::BUSY_HERE).await?,
            ("redirect", Some(talk)) => talk.call.redirect(&[rest]).await?,
            ("hold", Some(talk)) => talk.hold().await?,
            ("resume", Some(talk)) => talk.resume().await?,
            ("hang", Some(talk)) => talk.call.hang_up().await?,
            ("transfer", Some(Talk { call, .. })) if !rest.is_empty() => {
                return goes_along(call.transfer(rest), call, keyboard).await;
            }
            ("transfer", Some(Talk { call, .. })) => match &self.aside {
                Some(aside) => {
                    return goes_along(aside.call.transfer_to(call), call, keyboard).await;
                }
                None => println!("transfer to whom? consult somebody first, or name a URI"),
            },
            ("consult", Some(talk)) if self.aside.is_none() => {
                talk.hold().await?;
                self.aside = self.call.take();
                let options = CallOptions::new().with_sdp(own);
                let call = self.client.call_with(rest, options).await?;
                self.call = Some(Talk::new(call));
                println!("calling {rest}");
            }
            ("follow", Some(talk)) if self.wish.is_some() && self.aside.is_none() => {
                if let Some(wish) = self.wish.take() {
                    let options = CallOptions::new().with_sdp(own);
                    let new = talk.call.follow(&wish, options).await?;
                    println!("calling {}", shown(new.remote_uri()));
                    // The old call is the peer's to end.
                    self.aside = self.call.replace(Talk::new(new));
                }
            }
            ("decline", Some(talk)) => {
                if let Some(wish) = self.wish.take() {
                    talk.call
                        .refuse_transfer(&wish, StatusCode::DECLINE)
                        .await?;
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
        Ok(ControlFlow::Continue(()))
    }

    /// What happens in the call.
    pub(crate) async fn tells(&mut self, event: CallEvent) {
        let own = self.description();
        let Some(talk) = &mut self.call else {
            return;
        };
        match &event {
            CallEvent::Progress(answer) => {
                println!("{} {}", answer.status(), shown(&answer.reason()));
            }
            CallEvent::Redirected(place) => println!("sent on to {}", shown(place.as_str())),
            CallEvent::Answered(answer) => {
                talk.is_up = true;
                println!(
                    "{} {}: the call is up",
                    answer.status(),
                    shown(&answer.reason())
                );
            }
            CallEvent::Acknowledged(_) if !talk.is_up => {
                println!("the call is up");
                talk.is_up = true;
            }
            CallEvent::ChangeRequested(_) => talk.changes(event.sdp(), &own).await,
            CallEvent::TransferRequested(wish) => self.is_asked(wish.clone()),
            CallEvent::TransferProgress(report) => tells_of_transfer(&talk.call, report).await,
            CallEvent::Changed(_) => talk.has_changed(),
            CallEvent::ChangeRefused(answer) => {
                println!("refused: {} {}", answer.status(), shown(&answer.reason()));
            }
            CallEvent::Ended(end) => {
                println!("over: {}", told(end));
                self.call = None;
            }
            _ => {}
        }
    }

    /// What happens in the call that waits, or is about to end.
    pub(crate) async fn tells_aside(&mut self, event: CallEvent) {
        let own = self.description();
        let Some(aside) = &mut self.aside else {
            return;
        };
        match &event {
            CallEvent::TransferProgress(report) => tells_of_transfer(&aside.call, report).await,
            CallEvent::Changed(_) => aside.has_changed(),
            CallEvent::ChangeRequested(_) => aside.changes(event.sdp(), &own).await,
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

    /// Hangs up.
    pub(crate) async fn ends(mut self) {
        if let Some(Talk { call: aside, .. }) = &mut self.aside
            && aside.hang_up().await.is_ok()
        {
            println!("aside, over: {}", told(&aside.ended().await));
        }
        if let Some(Talk { call, .. }) = &mut self.call
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

/// Waits for what the peer says to a transfer: whoever uses it may think for long. The user may hang up meanwhile, and then it does not
/// matter any more.
async fn goes_along(
    asking: impl Future<Output = Result<SipResponse, Error>>,
    call: &CallHandle,
    keyboard: &mut Keyboard,
) -> Result<ControlFlow<()>, Error> {
    tokio::pin!(asking);
    loop {
        let line = tokio::select! {
            answer = &mut asking => {
                answer?;
                println!("the peer goes along");
                return Ok(ControlFlow::Continue(()));
            }
            line = keyboard.next_line() => typed(line),
            _ = tokio::signal::ctrl_c() => "quit".to_owned(),
        };
        match line.as_str() {
            "" => {}
            "quit" => return Ok(ControlFlow::Break(())),
            "hang up" | "hang" => {
                call.hang_up().await?;
                return Ok(ControlFlow::Continue(()));
            }
            _ => println!("the peer has not said yet whether it goes along; hang up, or wait"),
        }
    }
}

/// Says what came of a transfer; the call that asked for it has done its part when it has succeeded.
async fn tells_of_transfer(call: &CallHandle, report: &TransferReport) {
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
