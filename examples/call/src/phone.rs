//! What the user wants, what becomes of it, and what the other side does.

use std::ops::ControlFlow;
use std::sync::Arc;

use sipora_session_core::{
    CallEvent, CallHandle, CallOptions, Error, SessionCoordinator, SipClient, SipResponse,
    StatusCode, TransferRequest,
};

use crate::keyboard::Keyboard;
use crate::talk::Talk;
use crate::words::{HELP, shown, told};

/// Places that a call is redirected to, at most.
const PLACES: usize = 3;

pub(crate) struct Phone {
    client: Arc<SessionCoordinator>,
    pub(crate) call: Option<Talk>,
    /// A call that waits while another is made, or that another has taken over from.
    pub(crate) aside: Option<Talk>,
}

impl Phone {
    pub(crate) fn new(client: Arc<SessionCoordinator>) -> Self {
        Self {
            client,
            call: None,
            aside: None,
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
                if let Some(old) = &mut self.aside {
                    old.is_ending = true;
                }
            }
            return;
        }
        if self.call.is_some() || self.waits() {
            let _ = call.reject(StatusCode::BUSY_HERE).await;
            return;
        }
        // One that cannot be answered any more was cancelled.
        if call.ring().await.is_ok() {
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
        let rest = rest.trim();
        // Whoever is asked for something is whom there is.
        if self.call.is_none() && self.waits() {
            self.call = self.aside.take();
        }
        let (own, waits) = (self.description(), self.waits());
        match (verb, &mut self.call) {
            ("", _) => {}
            ("quit", _) => return Ok(ControlFlow::Break(())),
            ("call" | "consult" | "redirect", _) if rest.is_empty() => {
                println!("name a SIP URI as well, as in {verb} sip:bob@host");
            }
            ("call", None) => {
                let options = CallOptions::new().with_sdp(own).follow_redirects(PLACES);
                let call = self.client.call_with(rest, options).await?;
                self.call = Some(Talk::new(call));
                println!("calling {rest}");
            }
            ("answer", Some(talk)) if talk.is_up || talk.is_answered => {
                println!("the call is up already");
            }
            ("reject", Some(talk)) if talk.is_up || talk.is_answered => {
                println!("the call is up already: hang up ends it");
            }
            ("redirect", Some(talk)) if talk.is_up || talk.is_answered => {
                println!("the call is up already: transfer sends the peer on");
            }
            ("answer" | "reject" | "redirect", Some(talk)) if !talk.call.is_incoming() => {
                println!("the call is our own: it is for the peer to answer");
            }
            ("answer", Some(talk)) => {
                let answer = talk.answer_to(talk.call.sdp(), &own);
                talk.call.accept(&answer).await?;
                talk.is_answered = true;
            }
            ("reject", Some(talk)) => talk.call.reject(StatusCode::BUSY_HERE).await?,
            ("redirect", Some(talk)) => talk.call.redirect(&[rest]).await?,
            ("hold", Some(talk)) => talk.hold().await?,
            ("resume", Some(talk)) => talk.resume().await?,
            ("hang", Some(talk)) => talk.call.hang_up().await?,
            ("transfer", Some(talk)) if !rest.is_empty() => {
                let asked = goes_along(talk.call.transfer(rest), &talk.call, keyboard).await?;
                return Ok(asked.by(talk));
            }
            ("transfer", Some(Talk { call, .. })) => match &mut self.aside {
                Some(aside) if waits => {
                    let asking = aside.call.transfer_to(call);
                    let asked = goes_along(asking, call, keyboard).await?;
                    return Ok(asked.by(aside));
                }
                _ => println!("transfer to whom? consult somebody first, or name a URI"),
            },
            ("consult", Some(talk)) if self.aside.is_none() => {
                // Who cannot be called at all is refused before anybody is held.
                self.client.contact_uri("consults", rest).await?;
                talk.waits().await?;
                let options = CallOptions::new().with_sdp(own);
                let call = self.client.call_with(rest, options).await?;
                self.aside = self.call.replace(Talk::new(call));
                println!("calling {rest}");
            }
            ("consult" | "follow", Some(_)) if waits => {
                println!("one call waits already: transfer, or hang up this one");
            }
            ("consult" | "follow", Some(_)) if self.aside.is_some() => {
                println!("another call is about to end: not before that");
            }
            ("follow", Some(talk)) => match talk.wish.take() {
                Some(wish) => {
                    let options = CallOptions::new().with_sdp(own);
                    let new = talk.call.follow(&wish, options).await?;
                    println!("calling {}", shown(new.remote_uri()));
                    // The old call is the peer's to end.
                    self.aside = self.call.replace(Talk::new(new));
                }
                None => println!("there is nothing to follow"),
            },
            ("decline", Some(talk)) => match talk.wish.take() {
                Some(wish) => {
                    let declined = talk.call.refuse_transfer(&wish, StatusCode::DECLINE);
                    declined.await?;
                }
                None => println!("there is nothing to decline"),
            },
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
            CallEvent::TransferRequested(wish) => is_asked(talk, wish),
            CallEvent::TransferProgress(report) => talk.hears_of_transfer(report).await,
            CallEvent::Changed(_) => talk.has_changed(),
            CallEvent::ChangeRefused(answer) => talk.has_not_changed(answer),
            CallEvent::SessionEnded => {
                talk.is_ending = true;
                self.goes_back();
            }
            CallEvent::Ended(end) => {
                println!("over: {}", told(end));
                self.call = None;
                self.goes_back();
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
            CallEvent::TransferProgress(report) => {
                aside.hears_of_transfer(report).await;
                self.goes_back();
            }
            CallEvent::Changed(_) => aside.has_changed(),
            CallEvent::ChangeRefused(answer) => aside.has_not_changed(answer),
            CallEvent::ChangeRequested(_) => aside.changes(event.sdp(), &own).await,
            CallEvent::SessionEnded => aside.is_ending = true,
            CallEvent::Ended(end) => {
                println!("aside, over: {}", told(end));
                self.aside = None;
            }
            _ => {}
        }
    }

    /// Says whether there is a call aside to go back to.
    fn waits(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| !aside.is_ending)
    }

    /// Where the current call is over, the one that waits is that again; one that is transferred may be about to end instead.
    fn goes_back(&mut self) {
        if self.call.as_ref().is_some_and(|call| !call.is_ending) {
            return;
        }
        if let Some(aside) = &self.aside
            && !aside.is_ending
            && !aside.transfers
        {
            println!("back with {}", aside.with());
            std::mem::swap(&mut self.call, &mut self.aside);
        }
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

/// Who is asked to call somebody decides: whom it costs what is not the peer's to say.
fn is_asked(talk: &mut Talk, wish: &TransferRequest) {
    let target = wish.target();
    let whom = target.as_ref().map_or("nobody", |target| target.as_str());
    let whom = whom.split('?').next().unwrap_or_default();
    println!(
        "the peer sends you on to {}; follow or decline?",
        shown(whom)
    );
    talk.wish = Some(wish.clone());
}

/// Only who is sent by whom we are talking to, as far as From and Referred-By can be believed (RFC 3891 §3).
fn may_replace(new: &CallHandle, old: &CallHandle) -> bool {
    let by = new.referred_by().unwrap_or_default();
    new.replaces() == Some(old.key()) && by == format!("<{}>", old.remote_uri())
}

/// How it went on when a transfer was asked for.
enum Asked {
    GoesAlong,
    HungUp,
    Quit,
}

impl Asked {
    /// The call whose peer was asked takes note of it.
    fn by(self, talk: &mut Talk) -> ControlFlow<()> {
        talk.transfers = matches!(self, Self::GoesAlong);
        match self {
            Self::Quit => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Waits for what the peer says to a transfer: whoever uses it may think for long. The user may hang up meanwhile, and then it does not
/// matter any more.
async fn goes_along(
    asking: impl Future<Output = Result<SipResponse, Error>>,
    call: &CallHandle,
    keyboard: &mut Keyboard,
) -> Result<Asked, Error> {
    tokio::pin!(asking);
    loop {
        let line = tokio::select! {
            answer = &mut asking => {
                answer?;
                println!("the peer goes along");
                return Ok(Asked::GoesAlong);
            }
            line = keyboard.next() => line,
        };
        match line.as_str() {
            "" => {}
            "quit" => return Ok(Asked::Quit),
            "hang up" | "hang" => {
                call.hang_up().await?;
                return Ok(Asked::HungUp);
            }
            _ => println!("the peer has not said yet whether it goes along; hang up, or wait"),
        }
    }
}
