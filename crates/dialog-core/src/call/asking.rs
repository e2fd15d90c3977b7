//! Requests of an application's within a call, and what becomes of every request of ours that is no INVITE.

use std::time::Instant;

use sipora_message::{HeaderName, Method, Request, RequestBuilder, Response, StatusCode};

use super::core::{CallKey, Calls, ExchangeKey, Output, Within};
use super::effect::{Effect, of_error, of_status};
use super::event::{CallEnd, CallError, CallEvent};
use super::is_challenge;
use super::outgoing::FIRST_CSEQ;
use super::packages::info_package;
use super::reason;
use super::refer::ReferId;
use super::request::CallRequest;
use super::session::{Session, SessionState};
use crate::ApiError;

impl Calls {
    /// Sends a request of the application's; its outcome is an [`Output::Outcome`] of the name that is given.
    pub(crate) fn ask(
        &mut self,
        key: CallKey,
        asked: CallRequest,
    ) -> Result<ExchangeKey, CallError> {
        let call = self.call(key)?;
        if call.asking >= MOST_ASKED {
            return Err(CallError::Busy);
        }
        if call.is_to_come() && call.sessions.is_empty() {
            return Err(CallError::NotNow("there is no dialog yet"));
        }
        let is_heard = call.is_caller || call.has_answered();
        let session = match &asked.to_tag {
            Some(tag) => call.session(tag),
            None => call.only_session(),
        };
        let session = session.ok_or(CallError::Gone)?;
        if !session.is_up() {
            return Err(CallError::Gone);
        }
        if session.state == SessionState::Early && !is_heard {
            return Err(CallError::NotNow("the peer knows of no dialog yet"));
        }
        // RFC 6086 §4.2.1: "MUST NOT send an INFO request for an Info Package inside an invite dialog usage if the remote UA has
        // not indicated willingness to receive that Info Package within that dialog".
        if let Some(package) = &asked.package
            && !session.takes_package(package)
        {
            return Err(CallError::NotNow("the peer does not take this package"));
        }
        let tag: Box<str> = session.remote_tag().into();
        let builder = self.begin_within(key, &tag, asked.method.clone());
        let mut builder = builder.ok_or(CallError::Gone)?;
        if let Some(package) = &asked.package {
            builder = builder.header(info_package(), package);
            if asked.body.is_some() {
                builder = builder.header(HeaderName::ContentDisposition, "Info-Package");
            }
        }
        for (name, value) in &asked.headers {
            builder = builder.header(name.clone(), value);
        }
        if let Some(body) = &asked.body {
            builder = builder.body(&body.content_type, body.bytes.clone());
        }
        let request = builder
            .build()
            .map_err(|error| CallError::Invalid(error.to_string()))?;
        let name = self.next_exchange();
        self.call(key)?.asking += 1;
        self.send_for_refer(key, &tag, request, Some(name), None);
        Ok(name)
    }

    /// Begins a request within a dialog, with its next number; none where there is no such dialog, or no number left.
    pub(super) fn begin_within(
        &mut self,
        key: CallKey,
        tag: &str,
        method: Method,
    ) -> Option<RequestBuilder> {
        let session = self.calls.get_mut(&key)?.session(tag)?;
        let builder = session.dialog.request(method, FIRST_CSEQ)?;
        Some(match &self.config.product {
            Some(product) => builder.header(HeaderName::UserAgent, product),
            None => builder,
        })
    }

    /// Sends a request that [`begin_within`](Self::begin_within) began.
    pub(super) fn send_in_dialog(&mut self, key: CallKey, tag: &str, request: Request) {
        self.send_for_refer(key, tag, request, None, None);
    }

    /// Does so; `asked` names it for the application, and `refer` is the REFER that it is or tells of.
    pub(super) fn send_for_refer(
        &mut self,
        key: CallKey,
        tag: &str,
        request: Request,
        asked: Option<ExchangeKey>,
        refer: Option<ReferId>,
    ) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let authorizer = call.authorizer.clone();
        let Some(session) = call.session(tag) else {
            return;
        };
        let next_hop = session.dialog.next_hop().clone();
        let (target, fallback) = call.way(&next_hop);
        let within = Within {
            call: key,
            tag: tag.into(),
            method: request.method().clone(),
            cseq: request.headers().cseq().map_or(0, |cseq| cseq.number),
            request,
            retries: 0,
            authorizer,
            asked,
            refer,
        };
        self.send_within(within, target, fallback);
    }

    /// Takes the outcome of a request within a dialog: its final answer, or why there is none.
    pub(super) fn within_ended(
        &mut self,
        now: Instant,
        within: Within,
        outcome: Result<Response, ApiError>,
    ) {
        if within.method == Method::Update {
            return self.update_ended(now, &within, outcome);
        }
        let (key, method, tag) = (within.call, within.method, within.tag);
        if let (Some(call), Some(_)) = (self.calls.get_mut(&key), within.asked) {
            call.asking = call.asking.saturating_sub(1);
        }
        if method == Method::Prack {
            // Whatever is answered to it, the INVITE decides: a peer that does not know it any more has sent the final answer.
            let session = self.calls.get_mut(&key).and_then(|call| call.session(&tag));
            if let Some(session) = session {
                session.pracks = session.pracks.saturating_sub(1);
            }
            return;
        }
        let status = outcome.as_ref().ok().map(Response::status);
        let effect = match &outcome {
            Ok(response) => of_status(&method, response.status()),
            Err(error) => of_error(&method, error),
        };
        match (&method, within.refer) {
            // Whatever is answered to a BYE, "the UAC MUST consider the session and the dialog terminated" (RFC 3261 §15.1.1).
            (Method::Bye, _) => self.leave(now, key, &tag),
            (Method::Refer, Some(id)) => {
                self.refer_answered(now, key, &tag, id, outcome.as_ref().ok());
            }
            (Method::Notify, Some(id)) => {
                let is_overtaken = self.is_overtaken(key, &tag, within.cseq, &outcome);
                self.told(now, (key, &tag), id, effect, is_overtaken);
            }
            _ => {}
        }
        if let Some(name) = within.asked {
            self.outputs.push_back(Output::Outcome(name, outcome));
        }
        let is_calls = !matches!(method, Method::Bye | Method::Notify);
        if effect == Effect::Dialog {
            self.forget_refers(key, &tag);
        }
        if effect == Effect::Dialog || (is_calls && effect == Effect::Usage) {
            let answer = status.map(reason::of_status);
            self.lost(key, &tag, answer);
        }
    }

    /// A request of ours with a higher number has come before this one, or it was challenged while none may be sent.
    fn is_overtaken(
        &mut self,
        key: CallKey,
        tag: &str,
        cseq: u32,
        outcome: &Result<Response, ApiError>,
    ) -> bool {
        let is_refused =
            |response: &Response| response.status() == StatusCode::SERVER_INTERNAL_ERROR;
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        let is_mortal = session
            .as_ref()
            .is_some_and(|session| session.state == SessionState::Mortal);
        if is_mortal && outcome.as_ref().is_ok_and(is_challenge) {
            return true;
        }
        let last = session.and_then(|session| session.dialog.local_cseq());
        outcome.as_ref().is_ok_and(is_refused) && last.is_some_and(|last| last > cseq)
    }

    /// The call in a dialog is over. The dialog stays as long as a REFER is told of in it.
    pub(super) fn leave(&mut self, now: Instant, key: CallKey, tag: &str) {
        self.drop_refers(None, key, tag);
        self.remember_ended(key, tag);
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let mut others = call.sessions.iter();
        let is_other = |it: &&Session| it.remote_tag() != tag;
        let goes_on = others.any(|it| is_other(&it) && it.state != SessionState::Lingering);
        let is_told = !goes_on && call.sessions.iter().any(|it| is_other(&it));
        match call.session(tag) {
            Some(session) if session.has_refers() => {
                session.state = SessionState::Lingering;
                if !goes_on {
                    self.tell(key, CallEvent::SessionEnded);
                }
                self.tell_what_waits(now, key, tag);
            }
            _ => {
                call.sessions.retain(|session| session.remote_tag() != tag);
                if is_told {
                    self.tell(key, CallEvent::SessionEnded);
                }
            }
        }
    }

    /// Lets go of a dialog that was kept for a REFER.
    pub(super) fn leave_if_done(&mut self, key: CallKey, tag: &str) {
        if let Some(call) = self.calls.get_mut(&key) {
            let is_done = |it: &Session| it.state == SessionState::Lingering && !it.has_refers();
            call.sessions
                .retain(|session| session.remote_tag() != tag || !is_done(session));
        }
    }

    fn forget_refers(&mut self, key: CallKey, tag: &str) {
        self.drop_refers(None, key, tag);
        let session = self.calls.get_mut(&key).and_then(|call| call.session(tag));
        if let Some(session) = session.filter(|session| session.has_extras()) {
            session.extras().referred.clear();
            session.extras().referring.clear();
            self.leave_if_done(key, tag);
        }
    }

    /// The application has gone: nobody will tell of REFERs any more, or hear of them.
    pub(crate) fn abandon(&mut self, now: Instant, key: CallKey) -> Result<(), CallError> {
        let call = self.call(key)?;
        let tags = call.sessions.iter().filter(|it| it.has_extras());
        let tags: Vec<Box<str>> = tags.map(|it| it.remote_tag().into()).collect();
        for tag in tags {
            self.drop_refers(Some(now), key, &tag);
            let session = self.call(key)?.session(&tag);
            match session.filter(|it| it.state == SessionState::Mortal) {
                // The last word follows the answer to the BYE.
                Some(session) => session.extras().referring.clear(),
                None => self.forget_refers(key, &tag),
            }
        }
        if let Ok(call) = self.call(key)
            && let Some(outside) = &mut call.outside
        {
            outside.close();
        }
        self.settle(key);
        self.hang_up(key, None)
    }

    /// The peer has lost its side of a dialog: "the UAC SHOULD terminate the dialog" with BYE (RFC 3261 §12.2.1.2). An early
    /// dialog ends with its INVITE; a request in it may have overtaken the answer that made it (RFC 6086 §4.2.1).
    fn lost(&mut self, key: CallKey, tag: &str, reason: Option<Box<str>>) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let session = call.session(tag);
        if session.is_some_and(|session| session.is_confirmed()) {
            call.reason = reason;
            self.bye(key, CallEnd::Lost);
        }
    }
}

/// Requests of an application's at once in one call. Who sends more has not waited for the answers.
const MOST_ASKED: u8 = 16;
