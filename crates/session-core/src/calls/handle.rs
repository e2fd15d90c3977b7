//! [`CallHandle`]: what an application holds of a call.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sipora_dialog_core::{Call, CallError, CallEvent as Event, CallRequest, Refer, ReferReporter};
use sipora_message::{Request, StatusCode, Uri};

use super::described::Described;
use super::direction::{held, resumed};
use super::event::description;
use super::owed::Owed;
use super::transfer::told_of;
use super::{CallEnd, CallEvent, CallOptions, Outgoing, TransferRequest, body, follow};
use crate::outgoing::Outbound;
use crate::{Error, Result, SipResponse, uri};

/// A call, from its INVITE to its end, whoever began it. Signalling only: media are the application's, and so is what session
/// descriptions say of them.
///
/// What happens are [`CallEvent`]s, read by [`next`](Self::next). What is wished for are methods:
///
/// | wish | whose INVITE | what is sent |
/// | --- | --- | --- |
/// | [`ring`](Self::ring), [`progress`](Self::progress) | the peer's | 101 to 199; with a description early media |
/// | [`accept`](Self::accept) | the peer's, first or later | 200, again and again until its ACK comes |
/// | [`reject`](Self::reject) | the peer's, first or later | 400 to 699 |
/// | [`redirect`](Self::redirect) | the peer's first | 302 |
/// | [`acknowledge`](Self::acknowledge) | ours without an offer | ACK with the answer |
/// | [`change`](Self::change), [`hold`](Self::hold), [`resume`](Self::resume) | ours, in the call | INVITE in the dialog |
/// | [`request`](Self::request) | either's | INFO, OPTIONS |
/// | [`transfer`](Self::transfer) | either's | REFER |
/// | [`follow`](Self::follow), [`refuse_transfer`](Self::refuse_transfer) | either's | the answer to a REFER |
/// | [`hang_up`](Self::hang_up) | either's | CANCEL, 480 or BYE, whichever is right |
///
/// They return when it is on its way, and fail with [`Error::TooLate`] where the peer was faster, [`Error::NotNow`] where
/// something else comes first, [`Error::Closed`] when the coordinator was shut down.
///
/// # Who owes a description
///
/// An INVITE with an offer is answered in the 200; one without gets an offer there, and the answer is in the ACK (RFC 3261
/// §13.2.1). [`sdp`](Self::sdp) and [`CallEvent::sdp`] have what the peer says. This crate sees to it that there is one where one
/// is due, and not to what is in it.
///
/// # Challenges and forks
///
/// 401 and 407 to our INVITE and to requests within the call are answered with the credentials of the call or of the builder. Of
/// several user agents that accept, the first has the call; the others are acknowledged and hung up (RFC 3261 §13.2.2.4).
///
/// # Its end
///
/// Dropped, it is hung up. A shutdown of the coordinator refuses calls that ring, cancels those that we have begun and hangs up
/// those that are up; whoever does not answer that within its few seconds is not waited for.
#[must_use = "a call is hung up when its handle is dropped"]
pub struct CallHandle {
    call: Call,
    /// None: the peer has called.
    outgoing: Option<Box<Outgoing>>,
    remote: Box<str>,
    outbound: Arc<Outbound>,
    described: Mutex<Described>,
    owed: Mutex<Owed>,
    /// Who has us call, and hears of it.
    reporter: Option<ReferReporter>,
    /// An event that is told to who has us call before it is to the application.
    due: Option<CallEvent>,
    hangs_up: AtomicBool,
    is_over: bool,
}

impl CallHandle {
    pub(super) fn outgoing(call: Call, outgoing: Outgoing, target: Uri) -> Self {
        Self {
            call,
            described: Mutex::new(Described::new(outgoing.sdp.as_deref())),
            owed: Mutex::default(),
            outbound: outgoing.outbound.clone(),
            outgoing: Some(Box::new(outgoing)),
            remote: target.as_str().into(),
            reporter: None,
            due: None,
            hangs_up: AtomicBool::new(false),
            is_over: false,
        }
    }

    pub(super) fn incoming(call: Call, outbound: &Arc<Outbound>) -> Self {
        let from = call.invite().and_then(|invite| {
            let from = invite.headers().from().ok()?;
            Some(from.uri().as_str().into())
        });
        Self {
            call,
            outgoing: None,
            remote: from.unwrap_or_default(),
            outbound: outbound.clone(),
            described: Mutex::default(),
            owed: Mutex::default(),
            reporter: None,
            due: None,
            hangs_up: AtomicBool::new(false),
            is_over: false,
        }
    }

    /// Says whether the peer has called.
    pub fn is_incoming(&self) -> bool {
        self.outgoing.is_none()
    }

    /// The URI of whom we call, or of who calls us as From says: that it is true is for who authenticates calls to see to.
    pub fn remote_uri(&self) -> &str {
        &self.remote
    }

    /// The INVITE that the peer began the call with; none where we did, or once [`take_invite`](Self::take_invite) has it.
    pub fn invite(&self) -> Option<&Request> {
        self.call.invite()
    }

    /// Takes the INVITE out, whose octets need not be kept for as long as the call.
    pub fn take_invite(&mut self) -> Option<Request> {
        self.call.take_invite()
    }

    /// The offer of the INVITE that the peer began the call with. None where it has none: then [`accept`](Self::accept) makes
    /// the offer.
    pub fn sdp(&self) -> Option<&str> {
        let invite = self.invite()?;
        description(&invite.headers(), invite.body())
    }

    /// Waits for the next event; `None` after [`CallEvent::Ended`]. Nothing is lost when the future is dropped.
    ///
    /// 32 events wait; then provisional answers are given up, and after them the oldest. The end never is. A call that is to
    /// follow redirections does so here.
    pub async fn next(&mut self) -> Option<CallEvent> {
        if self.due.is_none() {
            self.due = self.next_here().await;
        }
        // Dropped in here, it is told again.
        if let (Some(reporter), Some(event)) = (&self.reporter, &self.due)
            && let Some(status) = told_of(event)
        {
            // Nobody may want to hear it any more.
            let _ = reporter.report(status).await;
            if status.is_final() {
                self.reporter = None;
            }
        }
        self.due.take()
    }

    async fn next_here(&mut self) -> Option<CallEvent> {
        while !self.is_over {
            if let Some(event) = self.call_next_place().await {
                return Some(event);
            }
            let has_credentials = self
                .outgoing
                .as_ref()
                .is_some_and(|out| out.has_credentials);
            let event = match self.call.next().await {
                Some(event) => {
                    self.owed().sees(&event);
                    self.refreshed(&event).await;
                    CallEvent::of(event, has_credentials)
                }
                None => Some(CallEvent::Ended(CallEnd::Closed)),
            };
            match event {
                Some(CallEvent::Ended(end)) => {
                    if let Some(event) = self.ended_with(end) {
                        return Some(event);
                    }
                }
                Some(event) => {
                    match &event {
                        CallEvent::Changed(_) => self.described().accepted(),
                        CallEvent::ChangeRefused(_) => self.described().refused(),
                        _ => {}
                    }
                    return Some(event);
                }
                None => {}
            }
        }
        None
    }

    /// Waits until our INVITE is accepted, and gives its 2xx. Provisional answers and redirections are passed over.
    ///
    /// # Errors
    ///
    /// Those of [`CallEnd::Failed`]; [`Error::Closed`] where we hung up, or did not call.
    pub async fn answered(&mut self) -> Result<SipResponse> {
        while let Some(event) = self.next().await {
            match event {
                CallEvent::Answered(response) => return Ok(response),
                CallEvent::Ended(CallEnd::Failed(error)) => return Err(error),
                _ => {}
            }
        }
        Err(Error::Closed)
    }

    /// Waits until the call is over. Every change of the session that the peer wants meanwhile is refused with 488, every transfer
    /// with 603.
    pub async fn ended(&mut self) -> CallEnd {
        while let Some(event) = self.next().await {
            match event {
                CallEvent::Ended(end) => return end,
                CallEvent::TransferRequested(wish) => {
                    let _ = self.refuse_transfer(&wish, StatusCode::DECLINE).await;
                }
                CallEvent::ChangeRequested(_) => {
                    // Where it was withdrawn meanwhile it is over all the same.
                    let _ = self.reject(StatusCode::NOT_ACCEPTABLE_HERE).await;
                }
                _ => {}
            }
        }
        CallEnd::Closed
    }

    /// Tells the caller that it rings here, with 180.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`].
    pub async fn ring(&self) -> Result<()> {
        Ok(self.call.ring().await?)
    }

    /// Tells the caller how it goes, with 101 to 199, as often as wanted; `sdp` is early media, the answer to the caller's offer.
    /// What was said last is repeated every minute (RFC 3261 §13.3.1.1).
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]; [`Error::InvalidRequest`] for any other status.
    pub async fn progress(&self, status: StatusCode, sdp: Option<&str>) -> Result<()> {
        Ok(self.call.progress(status, sdp.map(body)).await?)
    }

    /// Accepts the peer's INVITE, or what [`CallEvent::ChangeRequested`] told of. `sdp` is the answer to its offer, or the offer
    /// where it has none. After an INVITE, [`CallEvent::Acknowledged`] follows, or the end of the call after 64 × T1.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]; [`Error::InvalidRequest`] where `sdp` is empty.
    pub async fn accept(&self, sdp: &str) -> Result<()> {
        let is_offered = std::mem::take(&mut self.owed().offer);
        let answered = match is_offered {
            true => self.call.answer(body(sdp)).await,
            false => Err(CallError::Gone),
        };
        match answered {
            // None, or one that has waited for too long; an INVITE may wait all the same.
            Err(CallError::Gone) => self.call.accept(body(sdp)).await?,
            answered => answered?,
        }
        self.described().says(sdp);
        Ok(())
    }

    /// Refuses the peer's INVITE, the first or a later one: 486 says busy, 603 that nobody wants to be called. To refuse a later
    /// one changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]; [`Error::InvalidRequest`] for a status that is not 300 to 699.
    pub async fn reject(&self, status: StatusCode) -> Result<()> {
        let is_offered = std::mem::take(&mut self.owed().offer);
        let refused = match is_offered {
            true => self.call.refuse(status).await,
            false => Err(CallError::Gone),
        };
        match refused {
            Err(CallError::Gone) => Ok(self.call.reject(status).await?),
            refused => Ok(refused?),
        }
    }

    /// Sends the caller elsewhere, with 302; the first place is best.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]; [`Error::InvalidUri`] for a place that is no URI.
    pub async fn redirect(&self, places: &[&str]) -> Result<()> {
        let places = places.iter().map(|place| uri::contact("places", place));
        let places = places.collect::<Result<Vec<Uri>>>()?;
        Ok(self.call.redirect(&places).await?)
    }

    /// Answers the offer that came with the 2xx to an INVITE of ours that had none, or before it: [`CallEvent::EarlyOffer`].
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`].
    pub async fn acknowledge(&self, sdp: &str) -> Result<()> {
        let early = self.owed().early_answer.take();
        match early {
            Some(tag) => self.call.acknowledge_progress(&tag, body(sdp)).await?,
            None => self.call.acknowledge(body(sdp)).await?,
        }
        self.described().says(sdp);
        Ok(())
    }

    /// Asks the peer to change the session to this offer, or to make an offer of its own with `None`. [`CallEvent::Changed`] or
    /// [`CallEvent::ChangeRefused`] follows; meanwhile the session is as before.
    ///
    /// One that meets the peer's (491) is sent again after the time of RFC 3261 §14.1, unless the call ends before.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]: [`Error::NotNow`] while another change is under way, in either direction.
    pub async fn change(&self, sdp: Option<&str>) -> Result<()> {
        self.call.reinvite(sdp.map(body)).await?;
        if let Some(sdp) = sdp {
            self.described().offers(sdp);
        }
        Ok(())
    }

    /// Holds the call: asks the peer, as [`change`](Self::change) does, to send nothing any more, by what we last said of the session
    /// with `sendonly` in the place of `sendrecv`, and `inactive` in that of `recvonly` (RFC 3264 §8.4). The rest is as it was.
    ///
    /// What is played to the peer meanwhile, and that nothing is received, is the application's. An offer of its own making goes
    /// with [`change`](Self::change); [`MediaDirection`](crate::MediaDirection) helps.
    ///
    /// # Errors
    ///
    /// Those of [`change`](Self::change); [`Error::NotNow`] where nothing was said of the session yet.
    pub async fn hold(&self) -> Result<()> {
        self.redirect_media(held).await
    }

    /// Takes a [`hold`](Self::hold) back: `sendonly` becomes `sendrecv`, `inactive` becomes `recvonly`, as it is while the peer
    /// holds us too.
    ///
    /// # Errors
    ///
    /// Those of [`hold`](Self::hold).
    pub async fn resume(&self) -> Result<()> {
        self.redirect_media(resumed).await
    }

    /// Sends an INFO or OPTIONS within the call, and gives its final answer, whatever it says; in an early dialog too. A key that was
    /// pressed goes as most telephones send it:
    ///
    /// ```no_run
    /// # async fn example(call: &sipora_session_core::CallHandle) -> Result<(), sipora_session_core::Error> {
    /// use sipora_session_core::{Body, CallRequest};
    ///
    /// let key = Body::new("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n");
    /// let answer = call.request(CallRequest::info(key)).await?;
    /// println!("{} {}", answer.status(), answer.reason());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]; [`Error::Timeout`] and [`Error::Transport`] without an answer, [`Error::Busy`] with 16 under way.
    pub async fn request(&self, request: CallRequest) -> Result<SipResponse> {
        Ok(self.call.request(request).await?.into())
    }

    /// Transfers the peer: asks it to call `target_uri` (REFER, RFC 5589 §6), and gives its answer. What comes of it is told as
    /// [`CallEvent::TransferProgress`]; who has transferred then hangs up, and need not wait for that.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] where the peer does not want to, [`Error::InvalidUri`]; those of [`request`](Self::request).
    pub async fn transfer(&self, target_uri: &str) -> Result<SipResponse> {
        let target = uri::contact("target_uri", target_uri)?;
        self.refer(Refer::to(target)).await
    }

    /// Does what the peer asks for with a transfer: calls whom it names, with its Referred-By, and in the place of another call where
    /// it says so. What comes of the new call is told to the peer as its handle is read.
    ///
    /// # Errors
    ///
    /// [`Error::TooLate`] where it was refused, [`Error::InvalidRequest`] where it asks for something else than a call; those of
    /// [`call_with`](crate::SipClient::call_with). The peer is told of all but the first.
    pub async fn follow(&self, wish: &TransferRequest, options: CallOptions) -> Result<CallHandle> {
        let id = wish.referral.id;
        self.call.accept_refer(id).await?;
        let reporter = self.call.reporter(id);
        match follow(&self.outbound, wish, options).await {
            Ok((call, outgoing, target)) => {
                let mut handle = Self::outgoing(call, outgoing, target);
                handle.reporter = Some(reporter);
                Ok(handle)
            }
            Err(error) => {
                let _ = reporter.report(StatusCode::SERVICE_UNAVAILABLE).await;
                Err(error)
            }
        }
    }

    /// Refuses a transfer that the peer asks for, with 300 to 699: 603 is what RFC 5057 §5.6 advises.
    ///
    /// # Errors
    ///
    /// [`Error::TooLate`] where it was accepted or refused already.
    pub async fn refuse_transfer(&self, wish: &TransferRequest, status: StatusCode) -> Result<()> {
        Ok(self.call.reject_refer(wish.referral.id, status).await?)
    }

    async fn refer(&self, refer: Refer) -> Result<SipResponse> {
        let from = self
            .outgoing
            .as_ref()
            .map_or(&self.outbound.identity, |out| &out.from);
        let refer = refer.referred_by(format!("<{from}>"));
        let answer = SipResponse::from(self.call.refer(refer).await?.response);
        match answer.is_success() {
            true => Ok(answer),
            false => Err(Error::Rejected(answer)),
        }
    }

    /// Ends the call: with CANCEL while our INVITE has no final answer, with 480 while the peer's has none, else with BYE; one
    /// that we accepted after its ACK, for which it may have to wait. [`CallEvent::Ended`] follows when it is done.
    ///
    /// # Errors
    ///
    /// [`Error::TooLate`] where the call is over, [`Error::Closed`].
    pub async fn hang_up(&self) -> Result<()> {
        self.hangs_up.store(true, Ordering::Relaxed);
        let may_go_on = |out: &Outgoing| !self.is_over && out.redirects.is_on();
        match self.call.hang_up().await {
            // It was refused, and may be about to be called elsewhere; now it is not.
            Err(CallError::Gone) if self.outgoing.as_deref().is_some_and(may_go_on) => Ok(()),
            ended => Ok(ended?),
        }
    }

    async fn redirect_media(&self, how: fn(&str) -> String) -> Result<()> {
        let sdp = self.described().changed(how);
        let reason = "nothing was said of the session yet";
        let sdp = sdp.ok_or(Error::NotNow { reason })?;
        self.change(Some(&sdp)).await
    }

    /// Says once more what holds, where the session timer wants a description that only we know (RFC 4028 §7.4).
    async fn refreshed(&self, event: &Event) {
        if !matches!(event, Event::RefreshDue) {
            return;
        }
        let current = self.described().current();
        if let Some(sdp) = current {
            // With something else under way the session is refreshed by that.
            let _ = self.call.reinvite(Some(body(&sdp))).await;
        }
    }

    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn described(&self) -> MutexGuard<'_, Described> {
        self.described
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a redirection; an event tells of it, or that the call is over.
    async fn call_next_place(&mut self) -> Option<CallEvent> {
        loop {
            let outgoing = self
                .outgoing
                .as_mut()
                .filter(|out| out.redirects.is_due())?;
            if self.hangs_up.load(Ordering::Relaxed) {
                self.is_over = true;
                return Some(CallEvent::Ended(CallEnd::Cancelled));
            }
            let place = outgoing.redirects.next()?.clone();
            let called = outgoing.call(&place).await;
            outgoing.redirects.called();
            match called {
                Ok(call) => {
                    self.call = call;
                    return Some(CallEvent::Redirected(place));
                }
                Err(error) => {
                    let end = self.ended_with(CallEnd::Failed(error));
                    if end.is_some() {
                        return end;
                    }
                }
            }
        }
    }

    /// Takes the end of the call at one place; none where there is another to go to.
    fn ended_with(&mut self, end: CallEnd) -> Option<CallEvent> {
        let end = match (end, &mut self.outgoing) {
            (CallEnd::Failed(error), Some(outgoing)) => {
                CallEnd::Failed(outgoing.redirects.refused(error)?)
            }
            (end, _) => end,
        };
        self.is_over = true;
        Some(CallEvent::Ended(end))
    }
}

impl fmt::Debug for CallHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHandle")
            .field("remote", &self.remote)
            .field("is_incoming", &self.is_incoming())
            .finish_non_exhaustive()
    }
}
