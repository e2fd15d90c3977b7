//! Calls that go on in another process: their states are taken out, and put in again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use sipora_message::{HeaderName, Method, RAck, Request};

use super::acks::ack;
use super::core::{CallKey, Calls, Exchange, Output};
use super::event::{CallEnd, CallError};
use super::offer::OfferAnswer;
use super::record::Call;
use super::said::Said;
use super::session::{Session, SessionState};
use super::state::{AckState, CallState, TimerState};
use crate::{Authorizer, Body};

/// Dialogs that were let go of, and whose requests are for another process.
#[derive(Debug, Default)]
pub(super) struct Detached {
    /// Our tags, and when each is forgotten; in this order.
    tags: VecDeque<(Instant, Box<str>)>,
    known: HashMap<Box<str>, Instant>,
}

impl Detached {
    fn add(&mut self, now: Instant, until: Instant, tag: &str) {
        self.forget(now);
        self.tags.push_back((until, tag.into()));
        self.known.insert(tag.into(), until);
    }

    fn forget(&mut self, now: Instant) {
        while self.tags.front().is_some_and(|(until, _)| *until <= now) {
            let Some((_, tag)) = self.tags.pop_front() else {
                return;
            };
            if self.known.get(&tag).is_some_and(|until| *until <= now) {
                self.known.remove(&tag);
            }
        }
    }

    fn contains(&mut self, now: Instant, tag: &str) -> bool {
        self.forget(now);
        self.known.contains_key(tag)
    }
}

/// ACKs to 2xx whose copies cannot be told from strangers' answers any more, since the INVITE was another process'. They are sent at
/// the pace of those copies, in the place of being sent for each of them (RFC 3261 §13.2.2.4).
#[derive(Debug)]
pub(super) struct Acknowledging {
    acks: Vec<AckState>,
    pub(super) next: Instant,
    until: Instant,
}

type Acks = HashMap<CallKey, Vec<AckState>>;

impl Calls {
    /// Gives the state of a call that is up, and in which nothing is under way.
    pub(crate) fn export(&self, now: Instant, key: CallKey) -> Result<CallState, CallError> {
        self.state_of(now, key, &mut self.acks_of(|call| call == key))
    }

    /// Does so, and lets go of the call.
    pub(crate) fn detach(&mut self, now: Instant, key: CallKey) -> Result<CallState, CallError> {
        let state = self.export(now, key)?;
        self.let_go(now, key);
        Ok(state)
    }

    /// Gives the states of all calls that have one, and lets go of them, in the order in which they were begun.
    pub(crate) fn detach_all(&mut self, now: Instant) -> Vec<CallState> {
        let mut acks = self.acks_of(|_| true);
        let mut keys: Vec<CallKey> = self.calls.keys().copied().collect();
        keys.sort_unstable();
        let mut states = Vec::with_capacity(keys.len());
        for key in keys {
            if let Ok(state) = self.state_of(now, key, &mut acks) {
                self.let_go(now, key);
                states.push(state);
            }
        }
        states
    }

    fn state_of(
        &self,
        now: Instant,
        key: CallKey,
        acks: &mut Acks,
    ) -> Result<CallState, CallError> {
        let call = self.calls.get(&key).ok_or(CallError::Gone)?;
        let session = call.quiet_session()?;
        let timer = call.timer.as_ref().map(|timer| TimerState {
            left: timer.left(now, call.min_se),
            description: session.said.as_ref().map(Said::body),
        });
        let mut acks = acks.remove(&key).unwrap_or_default();
        if let Some(acknowledging) = call.acknowledging.as_ref().filter(|it| now < it.until) {
            acks.extend(acknowledging.acks.iter().cloned());
        }
        acks.truncate(MOST_ACKS);
        Ok(CallState {
            dialog: session.dialog.clone(),
            is_caller: call.is_caller,
            contact: call.contact.clone(),
            allows_update: session.allows_update,
            packages: session.packages().cloned(),
            was_referred: session.was_referred(),
            has_session: session.offer.has_session,
            is_direct: call.flow.is_some() || call.wants_flow,
            late_prack: call.late_prack.as_ref().map(|late| (late.rseq, late.cseq)),
            timer,
            acks,
        })
    }

    /// The ACKs that copies of a 2xx would have again, the newest first.
    fn acks_of(&self, wanted: impl Fn(CallKey) -> bool) -> Acks {
        let mut found = Acks::new();
        for exchange in self.exchanges.values() {
            let Exchange::Invite(client) = exchange else {
                continue;
            };
            let Some(call) = self.calls.get(&client.call).filter(|_| wanted(client.call)) else {
                continue;
            };
            let is_up = |tag: &str| {
                let mut sessions = call.sessions.iter();
                sessions.any(|it| it.is_confirmed() && it.remote_tag() == tag)
            };
            let accepted = client.accepted.iter().find(|it| is_up(&it.tag));
            if let Some(ack) = accepted.and_then(|accepted| accepted.ack.as_ref()) {
                let acks = found.entry(client.call).or_default();
                acks.push(AckState {
                    cseq: client.cseq,
                    body: body_of(&ack.request),
                });
                acks.sort_unstable_by_key(|ack| std::cmp::Reverse(ack.cseq));
            }
        }
        found
    }

    /// Forgets a call without a word to the peer. What comes for it is another process' to answer.
    fn let_go(&mut self, now: Instant, key: CallKey) {
        let forgets = now + self.config.t1 * COPIES;
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        self.detached.add(now, forgets, &call.local_tag);
        call.end = Some(Box::new(CallEnd::Detached));
        call.sessions.clear();
        self.settle(key);
    }

    /// Ends calls that were let go of for somebody who does not want them any more.
    pub(crate) fn end_detached(
        &mut self,
        now: Instant,
        states: impl IntoIterator<Item = CallState>,
    ) {
        for state in states {
            if let Ok(key) = self.restore(now, state, None) {
                // It is up.
                let _ = self.hang_up(key, None);
            }
        }
    }

    /// Says whether a request stands in a dialog that was let go of.
    pub(crate) fn is_detached(&mut self, now: Instant, request: &Request) -> bool {
        let to = request.headers().to();
        let tag = to.ok().and_then(|to| to.tag());
        tag.is_some_and(|tag| self.detached.contains(now, tag))
    }

    /// Goes on with a call of another process'.
    pub(crate) fn restore(
        &mut self,
        now: Instant,
        state: CallState,
        authorizer: Option<Arc<dyn Authorizer>>,
    ) -> Result<CallKey, CallError> {
        if self.calls.len() >= self.config.max_calls {
            self.metrics.refused_for_lack_of_room += 1;
            return Err(CallError::Busy);
        }
        let tag = state.dialog.id().local_tag.clone();
        if self.by_tag.contains_key(&tag) {
            return Err(CallError::Invalid("the call is there already".to_owned()));
        }
        let key = self.next_call();
        let mut call = Call::new(state.is_caller, &tag, state.contact.into());
        call.authorizer = match state.is_caller {
            true => authorizer,
            false => authorizer.or_else(|| self.config.authorizer.clone()),
        };
        call.wants_flow = state.is_direct;
        call.late_prack = state.late_prack.map(|(rseq, cseq)| {
            Box::new(RAck {
                rseq,
                cseq,
                method: Method::Invite,
            })
        });
        let said = state.timer.map(|timer| {
            call.timer = Some(Box::new(timer.left.timer(now)));
            timer.description.map(Said::from)
        });
        if !state.acks.is_empty() {
            call.acknowledging = Some(Box::new(Acknowledging {
                acks: state.acks,
                next: now,
                until: now + self.config.t1 * COPIES,
            }));
        }
        let mut offer = OfferAnswer::default();
        offer.has_session = state.has_session;
        let mut session = Session::new(state.dialog, offer);
        session.state = SessionState::Established;
        session.allows_update = state.allows_update;
        session.restore(state.packages, state.was_referred);
        session.said = said.flatten();
        call.add_session(session);
        self.insert(key, call);
        self.acknowledge_again(now, key);
        self.settle(key);
        Ok(key)
    }

    /// Sends the ACKs of a call that was restored, if it is time.
    pub(super) fn acknowledge_again(&mut self, now: Instant, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else {
            return;
        };
        let Some(mut acknowledging) = call.acknowledging.take_if(|it| it.next <= now) else {
            return;
        };
        let Some(session) = call.sessions.iter().find(|session| session.is_confirmed()) else {
            return;
        };
        if acknowledging.until <= now {
            return;
        }
        let (target, fallback) = call.way(session.dialog.next_hop());
        for wanted in &acknowledging.acks {
            let body = wanted.body.as_ref();
            if let Some(request) = ack(&session.dialog, wanted.cseq, &[], body) {
                self.outputs.push_back(Output::Send {
                    exchange: None,
                    request,
                    target: target.clone(),
                    fallback: fallback.clone(),
                });
            }
        }
        acknowledging.next = now + self.config.t2;
        call.acknowledging = Some(acknowledging);
    }
}

impl Call {
    /// Its dialog, if it is up and nothing is under way in it.
    fn quiet_session(&self) -> Result<&Session, CallError> {
        let confirmed = self.sessions.iter().find(|session| session.is_confirmed());
        let Some(session) = confirmed else {
            let is_over = self.end.is_some() || self.hangs_up || self.is_ending();
            return Err(match is_over {
                true => CallError::Gone,
                false => CallError::NotNow("the call is not up yet"),
            });
        };
        if self.hangs_up {
            return Err(CallError::Gone);
        }
        let waits = session.state != SessionState::Established;
        if waits || self.client.is_some() || !self.servers.is_empty() || self.glare.is_some() {
            return Err(CallError::NotNow("an INVITE is in progress"));
        }
        let is_open = session.offer.is_ours() || session.offer.is_theirs();
        if is_open || self.offered.is_some() || self.updating.is_some() || session.pracks > 0 {
            return Err(CallError::NotNow("an UPDATE or PRACK is in progress"));
        }
        if self.asking > 0 {
            return Err(CallError::NotNow("a request has no answer yet"));
        }
        if self.sessions.iter().any(Session::has_refers) {
            return Err(CallError::NotNow("a REFER is still told of"));
        }
        Ok(session)
    }

    fn is_ending(&self) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|session| !session.is_up())
    }
}

/// The body of a request of ours.
fn body_of(request: &Request) -> Option<Body> {
    let kind = request.headers().text(&HeaderName::ContentType)?;
    let bytes = request.body();
    (!bytes.is_empty()).then(|| Body::new(&kind, bytes.to_vec()))
}

/// ACKs of one call that are kept: of as many INVITEs in half a minute.
pub(super) const MOST_ACKS: usize = 4;

/// In T1, how long copies of a 2xx come (RFC 3261 §13.3.1.4), and requests for who has their dialog no more.
const COPIES: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_dialog_that_was_let_go_of_is_forgotten_after_its_time() {
        let start = Instant::now();
        let mut detached = Detached::default();
        let second = Duration::from_secs(1);
        detached.add(start, start + second * 3, "a");
        detached.add(start + second, start + second * 4, "b");
        // It came back, and went again.
        detached.add(start + second, start + second * 5, "a");
        assert!(detached.contains(start + second * 3, "a"));
        assert!(detached.contains(start + second * 3, "b"));
        assert!(!detached.contains(start + second * 4, "b"));
        assert!(detached.contains(start + second * 4, "a"));
        assert!(!detached.contains(start + second * 5, "a"));
        assert!(detached.tags.is_empty() && detached.known.is_empty());
    }
}
