//! INVITEs of ours that are refused, or get no answer (RFC 3261 §13.2.2.3, §14.1).

use std::time::{Duration, Instant};

use sipora_message::{HeaderName, Method, Response, StatusCode};
use sipora_transaction_core::Target;

use super::client::{ClientState, InviteClient};
use super::core::{CallKey, Calls, Exchange, ExchangeKey};
use super::event::{CallEnd, CallEvent};
use super::reason;
use super::record::Glare;
use super::session::{Session, SessionState};
use super::{MAX_GLARES, is_challenge};
use crate::ApiError;
use crate::user::{Retry, retry};

impl Calls {
    /// Takes the news that no 2xx will come any more for an INVITE that was accepted.
    pub(crate) fn handle_ended(&mut self, exchange: ExchangeKey) {
        let Some(Exchange::Invite(client)) = self.exchanges.get(&exchange) else {
            return;
        };
        let key = client.call;
        match self.calls.get_mut(&key) {
            Some(call) if call.client == Some(exchange) => match call.confirmed() {
                Some(_) => self.never_settled(key, exchange),
                // What was accepted was ended at once, and no other fork has accepted.
                None => {
                    call.client = None;
                    call.ends_as(CallEnd::HungUp);
                    self.early_dialogs_end(key, None);
                }
            },
            _ => {}
        }
        self.forget(exchange);
        self.settle(key);
    }

    /// The peer waits no longer for what an INVITE was to settle: for the answer to its offer, or it has not accepted a re-INVITE
    /// that others have, which is silence (RFC 3261 §12.2.1.2).
    fn never_settled(&mut self, key: CallKey, exchange: ExchangeKey) {
        let end = match self.awaits_ack(exchange) {
            true => CallEnd::HungUp,
            false => CallEnd::Lost,
        };
        self.bye(key, end);
    }

    /// Takes the news that a request of ours got no answer.
    pub(crate) fn handle_failed(&mut self, now: Instant, exchange: ExchangeKey, error: ApiError) {
        let key = match self.exchanges.remove(&exchange) {
            Some(Exchange::Invite(client)) => {
                let key = client.call;
                self.invite_failed(now, exchange, *client, error);
                key
            }
            Some(Exchange::Within(within)) => {
                let key = within.call;
                self.within_ended(now, *within, Err(error));
                key
            }
            None => return,
        };
        self.settle(key);
    }

    pub(super) fn refused(
        &mut self,
        now: Instant,
        exchange: ExchangeKey,
        mut client: Box<InviteClient>,
        response: Response,
        from: Target,
    ) {
        let may_go_again = self.may_invite_again(&client);
        if may_go_again && is_challenge(&response) && self.invite_again(&mut client, &response) {
            client.target = Some(from);
            self.send_invite(exchange, *client, None);
            return;
        }
        if may_go_again && self.lengthened(&mut client, &response) {
            client.target = Some(from);
            self.send_invite(exchange, *client, None);
            return;
        }
        let Some(call) = self.calls.get_mut(&client.call) else {
            return;
        };
        if call.client == Some(exchange) {
            call.client = None;
        }
        let Some(tag) = &client.within else {
            call.expires = None;
            let end = match client.state {
                ClientState::Cancelling => CallEnd::Cancelled,
                _ => CallEnd::Refused(response),
            };
            call.ends_as(end);
            // §13.2.2.3: "Early dialogs ... are terminated".
            self.early_dialogs_end(client.call, None);
            return;
        };
        let tag = tag.clone();
        self.reinvite_refused(now, *client, &tag, response);
    }

    /// A re-INVITE of ours was refused, or did not get to the peer.
    fn reinvite_refused(
        &mut self,
        now: Instant,
        client: InviteClient,
        tag: &str,
        response: Response,
    ) {
        self.learn_min_se(client.call, &response);
        let Some(call) = self.calls.get_mut(&client.call) else {
            return;
        };
        let has_changed = call.has_changed;
        let is_open = !call.updates_with_offer(tag);
        let session = call.session(tag).filter(|session| session.is_confirmed());
        let Some(session) = session else {
            return;
        };
        if is_open {
            session.offer.withdrawn();
        }
        match response.status() {
            StatusCode::REQUEST_PENDING if client.glares < MAX_GLARES => {
                let glare = Glare {
                    at: now + self.glare_wait(client.call),
                    body: client.body,
                    count: client.glares + 1,
                    update: None,
                    is_refresh: client.is_refresh,
                };
                self.waits_after_glare(now, client.call, glare, response);
            }
            // §12.2.1.2: "If the response for a request within a dialog is a 481 or a 408 ..., the UAC SHOULD terminate the
            // dialog."
            status @ (StatusCode::CALL_DOES_NOT_EXIST | StatusCode::REQUEST_TIMEOUT) => {
                if let Ok(call) = self.call(client.call) {
                    call.reason = Some(reason::of_status(status));
                }
                self.bye(client.call, CallEnd::Lost);
            }
            // RFC 6141 §3.4: the UAC "SHOULD generate a new re-INVITE or UPDATE request in order to make sure that both UAs have a
            // common view".
            _ if has_changed => {
                if client.is_refresh {
                    self.refresh_refused(now, client.call, Some(&response), Method::Invite);
                }
                self.tell(client.call, CallEvent::ReinviteUndone(response));
            }
            _ if client.is_refresh => {
                self.refresh_refused(now, client.call, Some(&response), Method::Invite);
            }
            _ => self.tell(client.call, CallEvent::ReinviteRefused(response)),
        }
    }

    /// Lets a change that met the peer's wait, to be sent again. One waits at a time: the application's goes before a refresh, which
    /// is due again later; of two of the application's the second is refused.
    pub(super) fn waits_after_glare(
        &mut self,
        now: Instant,
        key: CallKey,
        glare: Glare,
        response: Response,
    ) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let glare = Box::new(glare);
        let (first, second) = match call.glare.take() {
            None => (glare, None),
            Some(waiting) if waiting.is_refresh && !glare.is_refresh => (glare, Some(waiting)),
            Some(waiting) => (waiting, Some(glare)),
        };
        call.glare = Some(first);
        match second {
            None => {}
            Some(second) if second.is_refresh => {
                self.refresh_refused(now, key, None, Method::Update);
            }
            Some(second) if second.update.is_some() => {
                self.tell(key, CallEvent::UpdateRefused(response));
            }
            Some(_) => self.tell(key, CallEvent::ReinviteRefused(response)),
        }
    }

    /// Says whether an INVITE may be sent once more: not when it is being cancelled, nor in a call that is over or has a BYE on its
    /// way, when "the UA MUST NOT send any new requests" (RFC 5407 §2).
    fn may_invite_again(&mut self, client: &InviteClient) -> bool {
        let Some(call) = self.calls.get_mut(&client.call) else {
            return false;
        };
        if client.state == ClientState::Cancelling || call.end.is_some() {
            return false;
        }
        match &client.within {
            Some(tag) => call.session(tag).is_some_and(|it| it.is_confirmed()),
            None => true,
        }
    }

    /// Makes an INVITE anew that a proxy or the peer finds the session of too short: 422 (RFC 4028 §7.3, §7.4). A re-INVITE is
    /// for the timer of its call to send again.
    fn lengthened(&mut self, client: &mut InviteClient, response: &Response) -> bool {
        let headers = response.headers();
        let is_too_short = response.status() == StatusCode::SESSION_INTERVAL_TOO_SMALL;
        let min_se = headers.min_se().ok().flatten();
        let (Some(min_se), Some(request), true) = (min_se, &client.request, is_too_short) else {
            return false;
        };
        let asked = request.headers().session_expires().ok().flatten();
        let is_longer = asked.is_some_and(|asked| asked.seconds < min_se);
        if client.within.is_some() || !is_longer || client.lengthened >= MAX_LENGTHENED {
            return false;
        }
        let cseq = self.last_cseq(client) + 1;
        let edited = request
            .edit()
            .set(HeaderName::SessionExpires, min_se)
            .set(HeaderName::MinSe, min_se)
            .set(HeaderName::CSeq, format!("{cseq} INVITE"))
            .build();
        let Ok(edited) = edited else {
            return false;
        };
        self.early_dialogs_end(client.call, None);
        client.progress.clear();
        client.ended.clear();
        client.request = Some(Box::new(edited));
        client.cseq = cseq;
        client.lengthened += 1;
        client.state = ClientState::Calling;
        true
    }

    /// How long a request waits that met the peer's (RFC 3261 §14.1, RFC 3311 §5.3): the owner of the Call-ID 2.1 to 4 s, the other
    /// 0 to 2 s, "in units of 10 ms".
    pub(super) fn glare_wait(&mut self, key: CallKey) -> Duration {
        let is_caller = self.calls.get(&key).is_some_and(|call| call.is_caller);
        let (low, high) = if is_caller { (210, 400) } else { (0, 200) };
        Duration::from_millis(10 * self.ids.number_in(low, high))
    }

    /// Makes an INVITE anew with credentials, if there are any for its challenge.
    fn invite_again(&mut self, client: &mut InviteClient, response: &Response) -> bool {
        let (Some(authorizer), Some(request)) = (&client.authorizer, &client.request) else {
            return false;
        };
        let last = self.last_cseq(client);
        let cnonce = self.ids.tag();
        let again = retry(
            request,
            last,
            client.retries,
            &**authorizer,
            response,
            cnonce.as_str(),
        );
        let Retry::Send(request) = again else {
            return false;
        };
        match &client.within {
            Some(tag) => {
                let call = self.calls.get_mut(&client.call);
                if let Some(session) = call.and_then(|call| call.session(tag)) {
                    session.dialog.sent(last + 1);
                }
            }
            None => drop(self.early_dialogs_end(client.call, None)),
        }
        client.progress.clear();
        client.ended.clear();
        client.request = Some(request);
        client.cseq = last + 1;
        client.retries += 1;
        client.state = ClientState::Calling;
        true
    }

    /// The highest number that was used by an INVITE and within the dialogs that it stands in, or has made.
    fn last_cseq(&mut self, client: &InviteClient) -> u32 {
        let call = self.calls.get_mut(&client.call);
        let last = match (&client.within, call) {
            (Some(tag), Some(call)) => call.session(tag).and_then(|it| it.dialog.local_cseq()),
            // Its early dialogs, which end with it, may have had PRACKs.
            (None, Some(call)) => {
                let sessions = call.sessions.iter();
                sessions.filter_map(|it| it.dialog.local_cseq()).max()
            }
            _ => None,
        };
        last.unwrap_or(client.cseq).max(client.cseq)
    }

    fn invite_failed(
        &mut self,
        now: Instant,
        exchange: ExchangeKey,
        client: InviteClient,
        error: ApiError,
    ) {
        let Some(call) = self.calls.get_mut(&client.call) else {
            return;
        };
        if call.client == Some(exchange) {
            call.client = None;
        }
        if let Some(tag) = client.within.clone() {
            // RFC 3261 §8.1.3.1: an error of the transport is taken for a 503; only silence ends the dialog (§14.1).
            return match unavailable(&client, &error) {
                Some(response) => self.reinvite_refused(now, client, &tag, response),
                None if call.is_up() => self.bye(client.call, CallEnd::Lost),
                None => {}
            };
        }
        let end = match client.state {
            ClientState::Cancelling => CallEnd::Cancelled,
            _ => CallEnd::Failed(error),
        };
        call.ends_as(end);
        self.early_dialogs_end(client.call, None);
    }

    /// The early dialogs of our INVITE end, all but the one that was accepted, and what waits in them for an answer of ours has one.
    /// Gives the number of the last request in each: whoever accepts in one of them after all goes on from there.
    pub(super) fn early_dialogs_end(
        &mut self,
        key: CallKey,
        accepted: Option<&str>,
    ) -> Vec<(Box<str>, u32)> {
        self.drop_early_refers(key);
        let Some(call) = self.calls.get_mut(&key) else {
            return Vec::new();
        };
        let stays = |session: &Session| {
            session.state != SessionState::Early || accepted == Some(session.remote_tag())
        };
        let ends = call.sessions.iter().filter(|session| !stays(session));
        let last = |session: &Session| {
            let number = session.dialog.local_cseq()?;
            Some((session.remote_tag().into(), number))
        };
        let numbers: Vec<(Box<str>, u32)> = ends.filter_map(last).collect();
        for (tag, _) in &numbers {
            self.remember_ended(key, tag);
        }
        let Some(call) = self.calls.get_mut(&key) else {
            return Vec::new();
        };
        call.sessions.retain(stays);
        self.drop_open(key);
        numbers
    }

    /// Drops what is open in early dialogs that are over: an offer of the peer's gets its answer, and an UPDATE of ours is not waited
    /// for.
    pub(super) fn drop_open(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let mut is_lost = false;
        if let Some(updating) = call.updating.take() {
            match call.is_up_in(&updating.tag) {
                true => call.updating = Some(updating),
                false => is_lost = !updating.is_refresh,
            }
        }
        if let Some(glare) = call.glare.take() {
            match glare.update.as_ref().is_none_or(|tag| call.is_up_in(tag)) {
                true => call.glare = Some(glare),
                false => is_lost = true,
            }
        }
        let offered = call.offered.as_ref();
        if offered.is_some_and(|offered| !call.is_up_in(&offered.tag)) {
            self.refuse_offered(key, StatusCode::REQUEST_TERMINATED);
        }
        if is_lost {
            let error = ApiError::Cancelled { cseq: None };
            self.tell(key, CallEvent::UpdateFailed(error));
        }
    }
}

/// The answer that stands for a re-INVITE which did not get to the peer; none where it may have, and is not answered.
fn unavailable(client: &InviteClient, error: &ApiError) -> Option<Response> {
    if !matches!(error, ApiError::Transport { .. } | ApiError::Busy { .. }) {
        return None;
    }
    let builder = match &client.request {
        Some(request) => Response::for_request(request, StatusCode::SERVICE_UNAVAILABLE),
        None => Response::builder(StatusCode::SERVICE_UNAVAILABLE),
    };
    builder.build().ok()
}

/// Times that an INVITE is sent again for 422: each proxy on the way may have its own minimum.
pub(super) const MAX_LENGTHENED: u8 = 4;
