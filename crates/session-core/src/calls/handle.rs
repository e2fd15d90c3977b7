//! [`CallHandle`]: what an application holds of a call.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sipora_dialog_core::{Call, CallError, CallEvent as Event, CallKey};
use sipora_message::{HeaderName, Reason, Request, StatusCode, Uri};

use super::described::Described;
use super::event::description;
use super::heard::Heard;
use super::owed::Owed;
use super::reporter::Reporter;
use super::transfer::told_of;
use super::{CallEnd, CallEvent, Outgoing};
use crate::outgoing::Outbound;
use crate::{Error, Result, SipResponse};

/// A call, from its INVITE to its end, whoever began it. Signalling only: media are the application's, and so is what session
/// descriptions say of them.
///
/// What happens are [`CallEvent`]s, read by [`next`](Self::next). What is wished for are methods:
///
/// | wish | whose INVITE | what is sent |
/// | --- | --- | --- |
/// | [`ring`](Self::ring), [`progress`](Self::progress) | the peer's | 101 to 199; with a description early media |
/// | [`accept`](Self::accept) | the peer's, first or later | 200, again and again until its ACK comes |
/// | [`accept_replacing`](Self::accept_replacing) | the peer's first, which [`replaces`](Self::replaces) another call | 200, and BYE or CANCEL in the other |
/// | [`reject`](Self::reject), [`reject_with`](Self::reject_with) | the peer's, first or later | 300 to 699 |
/// | [`redirect`](Self::redirect) | the peer's first | 302 |
/// | [`acknowledge`](Self::acknowledge) | ours without an offer | ACK with the answer |
/// | [`change`](Self::change), [`hold`](Self::hold), [`resume`](Self::resume) | ours, in the call | INVITE in the dialog |
/// | [`request`](Self::request) | either's | INFO, MESSAGE, OPTIONS |
/// | [`transfer`](Self::transfer), [`transfer_to`](Self::transfer_to), [`transfer_to_address`](Self::transfer_to_address) | either's | REFER |
/// | [`follow`](Self::follow), [`refuse_transfer`](Self::refuse_transfer) | either's | the answer to a REFER |
/// | [`hang_up`](Self::hang_up) | either's | CANCEL, 480 or BYE, whichever is right |
/// | [`detach`](Self::detach) | either's | nothing: another process goes on with it |
///
/// They return when it is on its way, and fail with [`Error::TooLate`] where the peer was faster, [`Error::NotNow`] where
/// something else comes first, such as that the call is up, or that the peer asks for something, [`Error::Closed`] when the coordinator was shut down.
///
/// # Who owes a description
///
/// An INVITE with an offer is answered in the 200; one without gets an offer there, and the answer is in the ACK (RFC 3261
/// §13.2.1). [`remote_sdp`](Self::remote_sdp) has what the peer says, and [`CallEvent::sdp`] what one message says. This crate sees to
/// it that there is one where one is due, and of what is in it to the version in `o=` alone: a description that differs from what
/// was said before, and does not say so, gets the next (RFC 3264 §8).
///
/// # Challenges and forks
///
/// 401 and 407 to our INVITE and to requests within the call are answered with the credentials of the call or of the builder, and in
/// calls that others made with those of the builder.
///
/// Where proxies send our INVITE to several user agents, each has a To tag of its own, which tells their answers apart
/// ([`SipResponse::to_tag`]): several may ring, and several may have early media. [`CallEvent::Answered`] says who has accepted: the
/// first one has the call, and the others are acknowledged and hung up (RFC 3261 §13.2.2.4).
///
/// # Its end
///
/// Dropped, it is hung up. A shutdown of the coordinator refuses calls that ring, cancels those that we have begun and hangs up
/// those that are up; whoever does not answer that within its few seconds is not waited for.
#[must_use = "a call is hung up when its handle is dropped"]
pub struct CallHandle {
    pub(super) call: Call,
    pub(super) is_incoming: bool,
    /// How our INVITE is sent elsewhere. None: the peer has called, or another process has.
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// Who we are, as Referred-By says.
    pub(super) local: Box<str>,
    pub(super) remote: Box<str>,
    pub(super) outbound: Arc<Outbound>,
    pub(super) described: Mutex<Described>,
    pub(super) heard: Mutex<Heard>,
    pub(super) owed: Mutex<Owed>,
    /// Who has us call, and hears of it.
    pub(super) reporter: Option<Reporter>,
    /// Events that were looked at, and that the application has not read yet.
    pub(super) due: VecDeque<CallEvent>,
    /// The session timer wants what only we know.
    pub(super) refresh_is_due: bool,
    pub(super) hangs_up: AtomicBool,
    /// How it ended, once that was read.
    pub(super) end: Option<CallEnd>,
}

impl CallHandle {
    pub(super) fn outgoing(call: Call, outgoing: Outgoing, target: Uri) -> Self {
        let outbound = outgoing.outbound.clone();
        Self {
            described: Mutex::new(Described::new(outgoing.sdp.as_deref())),
            local: outgoing.from.as_str().into(),
            remote: target.as_str().into(),
            outgoing: Some(Box::new(outgoing)),
            ..Self::new(call, false, &outbound)
        }
    }

    pub(super) fn incoming(call: Call, outbound: &Arc<Outbound>) -> Self {
        let from = call.invite().and_then(|invite| {
            let from = invite.headers().from().ok()?;
            Some(from.uri().as_str().into())
        });
        Self {
            described: Mutex::new(Described::invited(call.invite())),
            heard: Mutex::new(Heard::new(call.invite())),
            remote: from.unwrap_or_default(),
            ..Self::new(call, true, outbound)
        }
    }

    pub(super) fn new(call: Call, is_incoming: bool, outbound: &Arc<Outbound>) -> Self {
        Self {
            call,
            is_incoming,
            outgoing: None,
            local: outbound.identity.as_str().into(),
            remote: Box::default(),
            outbound: outbound.clone(),
            described: Mutex::default(),
            heard: Mutex::default(),
            owed: Mutex::default(),
            reporter: None,
            due: VecDeque::new(),
            refresh_is_due: false,
            hangs_up: AtomicBool::new(false),
            end: None,
        }
    }

    /// Says whether the peer has called.
    pub fn is_incoming(&self) -> bool {
        self.is_incoming
    }

    /// The URI of whom we call, also where the call went elsewhere by a redirection ([`CallEvent::Redirected`] says where), or of who
    /// calls us as From says: that it is true is for who authenticates calls to see to.
    pub fn remote_uri(&self) -> &str {
        &self.remote
    }

    /// Names the call: no other of the coordinator has the name, ever. A call that is redirected has another name at each place.
    pub fn key(&self) -> CallKey {
        self.call.key()
    }

    /// The call of ours whose place this one takes when [`accept_replacing`](Self::accept_replacing) accepts it (RFC 3891), as at the
    /// target of an attended transfer: that one then ends with [`CallEnd::Replaced`], and hears BYE, or CANCEL where it still rings at
    /// its peer. [`accept`](Self::accept) refuses to do that, and to [`reject`](Self::reject) this one leaves that one as it is. Only
    /// with [`with_transfers`](crate::SessionManagerBuilder::with_transfers).
    ///
    /// Whether the caller may do that is for the application to find out before it accepts: "the UA MUST verify that the initiator
    /// of the new INVITE is authorized to replace the matched dialog" (RFC 3891 §3). Whoever names the call knows its Call-ID and
    /// tags, which nobody guesses: its peer, who the peer has told, and who can read what is sent. [`referred_by`](Self::referred_by)
    /// says who the caller claims to be sent by.
    pub fn replaces(&self) -> Option<CallKey> {
        self.call.replaces()
    }

    /// Who has sent the caller here, as it says itself (RFC 3892): an address. None where nobody has, or it was us who called, or
    /// once [`take_invite`](Self::take_invite) has the INVITE.
    pub fn referred_by(&self) -> Option<String> {
        let headers = self.invite()?.headers();
        Some(headers.text(&HeaderName::ReferredBy)?.into_owned())
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
    /// the offer. None too where we called: [`remote_sdp`](Self::remote_sdp) has what the peer says then, and what it says later.
    pub fn sdp(&self) -> Option<&str> {
        let invite = self.invite()?;
        description(&invite.headers(), invite.body())
    }

    /// What the peer says of the session, by whichever message that came, as far as events were read: the offer of its INVITE, its
    /// answer in a 200, ACK or PRACK, early media, and in the call the last offer of its own that was
    /// [accepted](Self::accept). None where it has said nothing yet.
    ///
    /// Of several user agents that have early media it is the newest, and once one has accepted, what that one said: in its 200, or,
    /// where it had answered reliably before (RFC 3262), there. An offer that came before the answer to a [`change`](Self::change) counts
    /// no more where the peer refuses that before the offer is answered.
    pub fn remote_sdp(&self) -> Option<String> {
        self.heard().current().map(Into::into)
    }

    /// Waits for the next event; `None` after [`CallEvent::Ended`]. Nothing is lost when the future is dropped.
    ///
    /// 32 events wait; then provisional answers are given up, and after them the oldest. The end never is. A call that is to
    /// follow redirections does so here.
    pub async fn next(&mut self) -> Option<CallEvent> {
        if self.due.is_empty() {
            let event = self.next_here().await?;
            self.due.push_back(event);
        }
        // Dropped in here, it is told again.
        if let (Some(reporter), Some(event)) = (&mut self.reporter, self.due.front())
            && let Some(status) = told_of(event)
        {
            reporter.report(status).await;
        }
        self.due.pop_front()
    }

    async fn next_here(&mut self) -> Option<CallEvent> {
        while self.end.is_none() {
            if let Some(event) = self.call_next_place().await {
                return Some(event);
            }
            if self.refresh_is_due {
                self.refresh().await;
                self.refresh_is_due = false;
            }
            let event = self.call.next().await;
            if let Some(event) = self.sees(event) {
                return Some(event);
            }
        }
        None
    }

    /// Takes note of what happened; gives what the application hears of it.
    pub(super) fn sees(&mut self, event: Option<Event>) -> Option<CallEvent> {
        let Some(event) = event else {
            return self.ended_with(CallEnd::Closed);
        };
        self.owed().sees(&event);
        self.heard().sees(&event);
        self.described().sees(&event);
        self.refresh_is_due |= matches!(event, Event::RefreshDue);
        let outgoing = self.outgoing.as_ref();
        let has_credentials = outgoing.is_some_and(|out| out.has_credentials);
        match CallEvent::of(event, &self.call, has_credentials)? {
            CallEvent::Ended(end) => self.ended_with(end),
            event => Some(event),
        }
    }

    /// Waits until our INVITE is accepted, and gives its 2xx. Provisional answers and redirections are passed over: where one of
    /// those had the answer to our offer, the 2xx need not repeat it, and [`remote_sdp`](Self::remote_sdp) has it.
    ///
    /// # Errors
    ///
    /// Those of [`CallEnd::Failed`]; [`Error::Closed`] where we hung up, or did not call.
    pub async fn answered(&mut self) -> Result<SipResponse> {
        while let Some(event) = self.next().await {
            match event {
                CallEvent::Answered(response) => return Ok(response),
                CallEvent::Ended(_) => break,
                _ => {}
            }
        }
        match &self.end {
            Some(CallEnd::Failed(error)) => Err(error.clone()),
            _ => Err(Error::Closed),
        }
    }

    /// Waits until the call is over, and says how it ended, also where that was told before. Every change of the session that the peer wants meanwhile is refused with 488, every transfer
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
        self.end.clone().unwrap_or(CallEnd::Closed)
    }

    /// Ends the call: with CANCEL while our INVITE has no final answer, with 480 while the peer's has none, else with BYE; one
    /// that we accepted after its ACK, for which it may have to wait. [`CallEvent::Ended`] follows when it is done: where the peer has said nothing at
    /// all, not even 100, only after 64 × T1 (32 s), since no CANCEL may be sent before (RFC 3261 §9.1).
    ///
    /// # Errors
    ///
    /// [`Error::TooLate`] where the call is over, [`Error::Closed`].
    pub async fn hang_up(&self) -> Result<()> {
        self.hangs_up(None).await
    }

    /// Does what [`hang_up`](Self::hang_up) does, and tells the peer why, in the Reason of the CANCEL or BYE (RFC 3326).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn hang_up_because(&self, reason: Reason) -> Result<()> {
        self.hangs_up(Some(reason)).await
    }

    async fn hangs_up(&self, reason: Option<Reason>) -> Result<()> {
        self.hangs_up.store(true, Ordering::Relaxed);
        let may_go_on = |out: &Outgoing| self.end.is_none() && out.redirects.is_on();
        let hung_up = match reason {
            Some(reason) => self.call.hang_up_because(reason).await,
            None => self.call.hang_up().await,
        };
        match hung_up {
            // It was refused, and may be about to be called elsewhere; now it is not.
            Err(CallError::Gone) if self.outgoing.as_deref().is_some_and(may_go_on) => Ok(()),
            ended => Ok(ended?),
        }
    }

    pub(super) fn over(&mut self, end: CallEnd) -> CallEvent {
        self.end = Some(end.clone());
        CallEvent::Ended(end)
    }

    pub(super) fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn described(&self) -> MutexGuard<'_, Described> {
        self.described
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
