//! What an application wants of the session of a call: that it begins, is refused, held, or otherwise changed.

use sipora_dialog_core::{Body, CallError, CallRequest, Rejection};
use sipora_message::{StatusCode, Uri};

use super::described::{Change, Offered};
use super::direction::{has_streams, held, resumed};
use super::{CallHandle, body};
use crate::{Answer, Error, Result, SipResponse, uri};

impl CallHandle {
    /// Tells the caller that it rings here, with 180.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`].
    pub async fn ring(&self) -> Result<()> {
        let rung = self.call.ring().await;
        rung.map_err(|error| self.unasked(error))
    }

    /// Tells the caller how it goes, with 101 to 199, as often as wanted; `sdp` is early media, the answer to the caller's offer, and
    /// [`accept`](Self::accept) then repeats it, or leaves it out where the caller has it reliably: what it says else does not count
    /// (RFC 3261 §13.2.1). Where the caller has made no
    /// offer, it is one, and has to reach it reliably (RFC 3262): [`CallEvent::ProgressAcknowledged`](super::CallEvent::ProgressAcknowledged)
    /// has the answer.
    /// What was said last is repeated every minute (RFC 3261 §13.3.1.1).
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]; [`Error::InvalidRequest`] for any other status, and where `sdp` is empty.
    pub async fn progress(&self, status: StatusCode, sdp: Option<&str>) -> Result<()> {
        let sdp = sdp.map(|sdp| self.described().next(sdp).into_owned());
        let description = sdp.as_deref().map(body).transpose()?;
        let noted = Noted::new(|| {
            if let Some(sdp) = &sdp {
                self.described().says_early(sdp);
                self.heard().answered_early();
            }
        });
        let progressed = self.call.progress(status, description).await;
        noted.has(progressed).map_err(|error| self.unasked(error))
    }

    /// Accepts the peer's INVITE, or what [`CallEvent::ChangeRequested`](crate::CallEvent::ChangeRequested) told of. `sdp` is the answer to its offer, or the offer
    /// where it has none. After an INVITE, [`CallEvent::Acknowledged`](crate::CallEvent::Acknowledged) follows, or the end of the call after 64 × T1.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]; [`Error::InvalidRequest`] where `sdp` is empty; [`Error::NotNow`] where another call would be hung up
    /// for this one: [`accept_replacing`](Self::accept_replacing).
    pub async fn accept(&self, sdp: &str) -> Result<()> {
        self.accept_or_replace(sdp, false).await
    }

    /// Accepts the peer's INVITE, and has it take the place of the call that it [`replaces`](Self::replaces), which is hung up, whoever
    /// has the handle of that: "the UA MUST verify that the initiator of the new INVITE is authorized to replace the matched dialog"
    /// (RFC 3891 §3), and who calls this has. A call that replaces none is accepted as by [`accept`](Self::accept), which is also for
    /// what comes later in this one.
    ///
    /// ```no_run
    /// # async fn example(new: sipora_session_core::CallHandle, mut old: sipora_session_core::CallHandle, sdp: &str)
    /// # -> Result<(), sipora_session_core::Error> {
    /// use sipora_session_core::StatusCode;
    ///
    /// // Whom the other call is with, who has sent the caller here, as it says: somebody has to know, or to be asked.
    /// # let agrees = |_: Option<String>| true;
    /// if new.replaces() == Some(old.key()) && agrees(new.referred_by()) {
    ///     new.accept_replacing(sdp).await?;
    ///     old.ended().await;
    /// } else {
    ///     new.reject(StatusCode::FORBIDDEN).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]: [`Error::TooLate`] where that call has ended meanwhile too, and this one was refused for it;
    /// [`Error::InvalidRequest`] where `sdp` is empty.
    pub async fn accept_replacing(&self, sdp: &str) -> Result<()> {
        self.accept_or_replace(sdp, true).await
    }

    async fn accept_or_replace(&self, sdp: &str, replaces: bool) -> Result<()> {
        let sdp = self.described().next(sdp).into_owned();
        let before = self.offers_after(&sdp).await;
        let accepted = self.accept_as(&sdp, replaces).await;
        if let (Err(_), Some(before)) = (&accepted, before) {
            self.offers_again(before).await;
        }
        accepted
    }

    async fn accept_as(&self, sdp: &str, replaces: bool) -> Result<()> {
        let description = body(sdp)?;
        let is_offered = self.owed().offer;
        if is_offered {
            let noted = Noted::new(|| {
                self.owed().offer = false;
                self.described().answers(sdp);
                self.heard().accepted();
            });
            match noted.has(self.call.answer(description.clone()).await) {
                // It has waited for too long; an INVITE may wait all the same.
                Err(CallError::Gone) => self.owed().offer = false,
                answered => return Ok(answered?),
            }
        }
        let noted = Noted::new(|| {
            self.described().accepts(sdp);
            self.heard().accepted_invite();
        });
        let accepted = match replaces {
            true => self.call.accept_replacing(description).await,
            false => self.call.accept(description).await,
        };
        noted.has(accepted).map_err(|error| self.unasked(error))
    }

    /// Makes a change anew that waits, since it met the peer's, from what is said now; gives what it was.
    async fn offers_after(&self, said: &str) -> Option<Offered> {
        let before = self.described().offered()?;
        let again = self.described().offered_after(said)?;
        self.offers_again(again).await.then_some(before)
    }

    /// Has another offer sent once more in the place of the one that waits; says whether one does.
    async fn offers_again(&self, offered: Offered) -> bool {
        let waits = match body(&offered.sdp) {
            Ok(description) => self.call.reoffer(description).await.is_ok(),
            Err(_) => false,
        };
        if waits {
            self.described().offers_as(offered);
        }
        waits
    }

    /// Refuses the peer's INVITE, the first or a later one: 486 says busy, 603 that nobody wants to be called. To refuse a later
    /// one changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]; [`Error::InvalidRequest`] for a status that is not 300 to 699.
    pub async fn reject(&self, status: StatusCode) -> Result<()> {
        let is_offered = self.owed().offer;
        let refused = match is_offered {
            true => self.call.refuse(status).await,
            false => Err(CallError::Gone),
        };
        match refused {
            Err(CallError::Gone) => {
                self.owed().offer = false;
                let rejected = self.call.reject(status).await;
                rejected.map_err(|error| self.unasked(error))?;
                self.described().refuses();
            }
            refused => {
                refused?;
                self.owed().offer = false;
            }
        }
        self.heard().refused();
        Ok(())
    }

    /// Does what [`reject`](Self::reject) does, and says why: the reason phrase, header fields such as Retry-After, Reason and
    /// Warning, and the body of the answer.
    ///
    /// ```no_run
    /// # async fn example(call: &sipora_session_core::CallHandle) -> Result<(), sipora_session_core::Error> {
    /// use sipora_session_core::{Answer, StatusCode};
    ///
    /// let at_lunch = Answer::new(StatusCode::BUSY_HERE).with_reason("At lunch");
    /// call.reject_with(at_lunch.with_header("Retry-After", "1800")).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As there; [`Error::InvalidRequest`] for what cannot be sent too, and then nothing is refused yet. An offer in an UPDATE is
    /// refused by its status alone.
    pub async fn reject_with(&self, answer: Answer) -> Result<()> {
        let status = answer.status;
        if self.owed().offer {
            return self.reject(status).await;
        }
        let mut rejection = Rejection::new(status);
        if let Some(reason) = answer.reason {
            rejection = rejection.reason(reason);
        }
        for (name, value) in answer.headers {
            rejection = rejection.header(name, value);
        }
        if let Some((content_type, body)) = answer.body {
            rejection = rejection.body(Body::new(&content_type, body));
        }
        let rejected = self.call.reject_with(rejection).await;
        rejected.map_err(|error| self.unasked(error))?;
        self.described().refuses();
        self.heard().refused();
        Ok(())
    }

    /// Sends the caller elsewhere, with 302; the first place is best, as their q says.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]; [`Error::InvalidUri`] for a place that is no URI, [`Error::InvalidRequest`] for no place at all.
    pub async fn redirect(&self, places: &[&str]) -> Result<()> {
        if places.is_empty() {
            return Err(Error::request("Contact", "there is no place to go to"));
        }
        let places = places.iter().map(|place| uri::contact("places", place));
        let places = places.collect::<Result<Vec<Uri>>>()?;
        let redirected = self.call.redirect(&places).await;
        redirected.map_err(|error| self.unasked(error))
    }

    /// Answers the offer that came with the 2xx to an INVITE of ours that had none, or before it: [`CallEvent::EarlyOffer`](crate::CallEvent::EarlyOffer), of
    /// which several that wait are answered in the order that they were told in.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`].
    pub async fn acknowledge(&self, sdp: &str) -> Result<()> {
        let sdp = self.described().next(sdp).into_owned();
        let description = body(&sdp)?;
        let early = self.owed().early_answers.front().cloned();
        let to = early.clone();
        let noted = Noted::new(|| match to.clone() {
            Some(tag) => self.described().says_to(tag, &sdp),
            None => self.described().says(&sdp),
        });
        let said = self.acknowledge_as(early, description).await;
        noted.has(said)
    }

    async fn acknowledge_as(&self, early: Option<Box<str>>, description: Body) -> Result<()> {
        match early {
            Some(tag) => {
                let answered = self.call.acknowledge_progress(&tag, description).await;
                if !matches!(answered, Err(CallError::BodyNeeded(_))) {
                    self.owed().early_answers.retain(|owed| *owed != tag);
                }
                answered?;
                self.heard().acknowledged();
            }
            None => self.call.acknowledge(description).await?,
        }
        Ok(())
    }

    /// Asks the peer to change the session to this offer, or to make an offer of its own with `None`. [`CallEvent::Changed`](crate::CallEvent::Changed) or
    /// [`CallEvent::ChangeRefused`](crate::CallEvent::ChangeRefused) follows; meanwhile the session is as before.
    ///
    /// One that meets the peer's (491) is sent again after the time of RFC 3261 §14.1, unless the call ends before: then this offer
    /// goes as it is, but for its version, and a [`hold`](Self::hold) is made anew from what was agreed on meanwhile. How long the
    /// peer may think about it has no limit, as with the first INVITE: a user of this crate who says nothing refuses after 15
    /// minutes, and [`hang_up`](Self::hang_up) ends the call meanwhile.
    ///
    /// One that cannot be got to the peer, as with its port closed, is told of as refused, with a 503 that is made here; the call stays
    /// up. A peer that says nothing at all, not even 100, is taken for gone after 64 × T1 (32 s): it is sent BYE, and
    /// [`Ended`](crate::CallEvent::Ended) with [`CallEnd::Lost`](crate::CallEnd::Lost) comes when that has its answer, or none within as
    /// long again.
    ///
    /// # Errors
    ///
    /// Those of [`CallHandle`]: [`Error::NotNow`] while another change is under way, in either direction.
    pub async fn change(&self, sdp: Option<&str>) -> Result<()> {
        match sdp {
            Some(sdp) => {
                let sdp = self.described().next(sdp).into_owned();
                self.ask(Some((&sdp, None))).await
            }
            None => self.ask(None).await,
        }
    }

    /// Holds the call: asks the peer, as [`change`](Self::change) does, to send nothing any more, by what we last said of the session
    /// with `sendonly` in the place of `sendrecv`, and `inactive` in that of `recvonly` (RFC 3264 §8.4). The rest is as it was.
    ///
    /// It is asked for again where the call is held already: another re-INVITE goes out, which refreshes the session (RFC 4028) too. What
    /// comes of it, and where it does not get to the peer, is told as by [`change`](Self::change).
    ///
    /// What is played to the peer meanwhile, and that nothing is received, is the application's. An offer of its own making goes
    /// with [`change`](Self::change); [`MediaDirection`](crate::MediaDirection) helps.
    ///
    /// # Errors
    ///
    /// Those of [`change`](Self::change); [`Error::NotNow`] where nothing was said of the session yet, or what was said last has no
    /// stream (`m=`) that is not refused: there is nothing to hold.
    pub async fn hold(&self) -> Result<()> {
        self.redirect_media(held).await
    }

    /// Takes a [`hold`](Self::hold) back: `sendonly` becomes `sendrecv`, `inactive` becomes `recvonly`, as it is while the peer
    /// holds us too. Where nothing is held it is asked for all the same, as there.
    ///
    /// # Errors
    ///
    /// Those of [`hold`](Self::hold).
    pub async fn resume(&self) -> Result<()> {
        self.redirect_media(resumed).await
    }

    /// Sends an INFO, MESSAGE or OPTIONS within the call, and gives its final answer, whatever it says; in an early dialog too. A peer of
    /// this crate takes every INFO without a package, and what
    /// [`with_info_package`](crate::SessionManagerBuilder::with_info_package) and
    /// [`with_messages_in_calls`](crate::SessionManagerBuilder::with_messages_in_calls) asked for: a MESSAGE gets 405 without. A key that
    /// was pressed goes as most telephones send it:
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
    /// Those of [`CallHandle`]: [`Error::NotNow`] for an INFO of a package that the peer has not named; [`Error::Timeout`] and
    /// [`Error::Transport`] without an answer, [`Error::Busy`] with 16 under way.
    pub async fn request(&self, request: CallRequest) -> Result<SipResponse> {
        Ok(self.call.request(request).await?.into())
    }

    /// Why there is nothing to answer: in a call of ours it is not too late where the peer has never asked for anything.
    fn unasked(&self, error: CallError) -> Error {
        let is_ours = !self.is_incoming && self.end.is_none();
        match error {
            CallError::Gone if is_ours && !self.owed().was_asked => Error::NotNow {
                reason: "the call is our own, and the peer has asked for nothing in it",
            },
            error => error.into(),
        }
    }

    async fn redirect_media(&self, how: Change) -> Result<()> {
        let not_now = |reason| Error::NotNow { reason };
        let sdp = self.described().changed(how);
        let sdp = sdp.ok_or_else(|| not_now("nothing was said of the session yet"))?;
        if !has_streams(&sdp) {
            return Err(not_now(
                "what was said of the session last has no stream (m=) that is not refused",
            ));
        }
        self.ask(Some((&sdp, Some(how)))).await
    }

    async fn ask(&self, offered: Option<(&str, Option<Change>)>) -> Result<()> {
        let description = offered.map(|(sdp, _)| body(sdp)).transpose()?;
        // Noted before: whoever stops waiting for this may have sent it all the same.
        let name = self.described().asks(offered);
        let asked = self.call.reinvite(description).await;
        match &asked {
            Ok(()) => self.described().has_asked(name),
            Err(_) => self.described().has_not_asked(name),
        }
        Ok(asked?)
    }

    /// Says once more what holds, where the session timer wants a description that only we know (RFC 4028 §7.4).
    pub(super) async fn refresh(&self) {
        let current = self.described().refreshes();
        if let Some(sdp) = current {
            // With something else under way the session is refreshed by that.
            if let Ok(description) = body(&sdp) {
                let _ = self.call.refresh(description).await;
            }
        }
    }
}

/// Takes note of what was done; also where nobody waits to hear that it was.
struct Noted<F: FnMut()>(Option<F>);

impl<F: FnMut()> Noted<F> {
    fn new(note: F) -> Self {
        Self(Some(note))
    }

    /// It was done, or not.
    fn has<T, E>(mut self, done: std::result::Result<T, E>) -> std::result::Result<T, E> {
        if done.is_err() {
            self.0 = None;
        }
        done
    }
}

impl<F: FnMut()> Drop for Noted<F> {
    fn drop(&mut self) {
        if let Some(note) = &mut self.0 {
            note();
        }
    }
}
