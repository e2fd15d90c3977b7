//! Calls on several shards. A call lives in the shard that its Call-ID leads to, where everything of its dialogs comes in; what
//! concerns two calls goes by letter from one shard to the other.

use std::collections::HashMap;

use sipora_message::{HeaderName, Headers, Method, Request, StatusCode, Uri};
use sipora_transaction_core::{Context, IncomingRequest, ServerTransactionId};
use tokio::sync::oneshot;

use super::command::{Act, Command};
use super::core::{CallKey, Calls};
use super::event::{CallEnd, CallError};
use super::places::contact;
use super::reason;
use super::refer::{Refer, ReferAnswer, ReferTo};
use super::rejection::Rejection;
use super::replacing::{Found, Replacing};
use super::user::CallUser;

/// What one shard writes to another.
pub(super) enum Letter {
    /// Which calls of yours does this INVITE name?
    Find {
        request: Request,
        asks: Asks,
        from: usize,
        number: u64,
    },
    Found(u64, Found),
    /// Is the call still one that may be replaced?
    MayReplace(Replacing, CallKey),
    Checked(CallKey, Result<(), StatusCode>),
    /// It has been.
    Replaced {
        old: CallKey,
        by: CallKey,
    },
    /// Whom is your call with, for a REFER in another?
    ReferTo {
        other: CallKey,
        address: Option<Uri>,
        call: CallKey,
        refer: Box<Refer>,
        reply: ReferReply,
    },
}

/// Who waits for the answer to a REFER.
type ReferReply = oneshot::Sender<Result<ReferAnswer, CallError>>;

/// What an INVITE names that may be another shard's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asks {
    replaces: bool,
    target: bool,
}

/// What waits for the answers of other shards.
#[derive(Default)]
pub(super) struct Elsewhere {
    finding: HashMap<u64, Finding>,
    accepting: HashMap<CallKey, Accepting>,
    next: u64,
}

/// An INVITE that names calls of other shards.
struct Finding {
    incoming: IncomingRequest,
    found: Found,
    /// Answers that are still to come.
    missing: usize,
}

/// A call that takes the place of another shard's as soon as that has looked.
struct Accepting {
    act: Act,
    reply: oneshot::Sender<Result<(), CallError>>,
}

impl CallUser {
    /// Writes to another shard; says whether there is somebody to read it.
    fn write(&self, shard: usize, letter: Letter) -> bool {
        self.ways.post(shard, Command::Letter(Box::new(letter)))
    }

    /// Hands a command over to the shard that it belongs to.
    pub(super) fn hand_over(&self, shard: usize, command: Command) {
        // With nobody there the command is dropped, which who waits for it notices.
        let _ = self.ways.post(shard, command);
    }

    pub(super) fn has_others(&self) -> bool {
        self.ways.shards() > 1
    }

    /// Asks other shards which of their calls an INVITE names, where it names any that may be theirs. Says whether it did; the
    /// INVITE waits then.
    pub(super) fn asks_others(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
    ) -> bool {
        if !self.has_others() {
            return false;
        }
        let asks = self.asks(context, &incoming.request);
        if asks.is_empty() {
            return false;
        }
        if self.elsewhere.finding.len() >= MOST_FINDING {
            self.refuse(context, incoming, StatusCode::SERVICE_UNAVAILABLE);
            return true;
        }
        self.elsewhere.next += 1;
        let number = self.elsewhere.next;
        let missing = asks.len();
        let finding = Finding {
            incoming: incoming.clone(),
            found: Found::default(),
            missing,
        };
        self.elsewhere.finding.insert(number, finding);
        for (shard, asks) in asks {
            let letter = Letter::Find {
                request: incoming.request.clone(),
                asks,
                from: self.shard,
                number,
            };
            if !self.write(shard, letter) {
                self.elsewhere.finding.remove(&number);
                self.refuse(context, incoming, StatusCode::SERVICE_UNAVAILABLE);
                break;
            }
        }
        true
    }

    fn asks(&self, context: &Context<'_>, request: &Request) -> HashMap<usize, Asks> {
        let mut asks: HashMap<usize, Asks> = HashMap::new();
        let headers = request.headers();
        let config = self.core.config();
        let is_invite = *request.method() == Method::Invite;
        let is_refer = *request.method() == Method::Refer && config.max_refers_outside > 0;
        let is_first = headers.to().is_ok_and(|to| to.tag().is_none());
        if !is_first || !(is_invite || is_refer) {
            return asks;
        }
        let elsewhere =
            |call_id: &str| Some(context.home(call_id)).filter(|home| *home != self.shard);
        if is_invite
            && config.takes_replaces
            && let Ok(Some(named)) = headers.replaces()
            && let Some(home) = elsewhere(named.call_id())
        {
            asks.entry(home).or_default().replaces = true;
        }
        if let Ok(Some(named)) = headers.target_dialog()
            && let Some(home) = elsewhere(named.call_id())
        {
            asks.entry(home).or_default().target = true;
        }
        asks
    }

    /// Answers an INVITE that no call has come of.
    fn refuse(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        status: StatusCode,
    ) {
        let mut builder = context.answer(&incoming.request, status);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            builder = builder.header(HeaderName::RetryAfter, BUSY_SECONDS);
        }
        if let Ok(response) = builder.build() {
            // It waits for its answer, or has been given up.
            let _ = context.respond(incoming.transaction, response);
        }
    }

    /// Takes a CANCEL for an INVITE that waits for other shards; says whether it was one.
    pub(super) fn cancels_finding(
        &mut self,
        context: &mut Context<'_>,
        transaction: ServerTransactionId,
    ) -> bool {
        let mut finding = self.elsewhere.finding.iter();
        let found = finding.find(|(_, finding)| finding.incoming.transaction == transaction);
        let Some(number) = found.map(|(number, _)| *number) else {
            return false;
        };
        if let Some(finding) = self.elsewhere.finding.remove(&number) {
            self.refuse(context, &finding.incoming, StatusCode::REQUEST_TERMINATED);
        }
        true
    }

    /// The endpoint ends: what waits for other shards waits no longer.
    pub(super) fn give_up_finding(&mut self, context: &mut Context<'_>) {
        for (_, finding) in std::mem::take(&mut self.elsewhere.finding) {
            self.refuse(context, &finding.incoming, StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    /// Accepts a call at once, or, where it takes the place of another shard's, as soon as that has looked.
    pub(super) fn accept_replacing(
        &mut self,
        context: &mut Context<'_>,
        key: CallKey,
        act: Act,
        reply: oneshot::Sender<Result<(), CallError>>,
    ) {
        let now = context.now().instant;
        if let Some(replacing) = self.core.replaces_elsewhere(key) {
            if self.elsewhere.accepting.contains_key(&key) {
                return drop(reply.send(Err(CallError::Gone)));
            }
            let shard = replacing.old.shard();
            if self.write(shard, Letter::MayReplace(replacing, key)) {
                let accepting = Accepting { act, reply };
                self.elsewhere.accepting.insert(key, accepting);
                return;
            }
        }
        let result = self.act(now, key, act);
        // Who does not wait for the outcome does not want it.
        let _ = reply.send(result);
    }

    pub(super) fn read(&mut self, context: &mut Context<'_>, letter: Letter) {
        let now = context.now().instant;
        match letter {
            Letter::Find {
                request,
                asks,
                from,
                number,
            } => {
                let found = self.core.find_named(request.headers(), asks);
                self.write(from, Letter::Found(number, found));
            }
            Letter::Found(number, found) => self.found(context, number, found),
            Letter::MayReplace(replacing, by) => {
                let checked = self.core.may_replace(&replacing);
                self.write(by.shard(), Letter::Checked(by, checked));
            }
            Letter::Checked(key, checked) => {
                let Some(Accepting { act, reply }) = self.elsewhere.accepting.remove(&key) else {
                    return;
                };
                let result = match checked {
                    Ok(()) => self.act(now, key, act),
                    Err(status) => {
                        let rejected = self.core.reject(key, &Rejection::new(status));
                        rejected.and(Err(CallError::Gone))
                    }
                };
                let _ = reply.send(result);
            }
            Letter::Replaced { old, by } => self.core.replaced(old, by),
            Letter::ReferTo {
                other,
                address,
                call,
                mut refer,
                reply,
            } => match self.core.refer_to_call(other, address.as_ref()) {
                Ok(refer_to) => {
                    refer.to = ReferTo::Uri(refer_to);
                    self.hand_over(call.shard(), Command::Refer(call, refer, reply));
                }
                Err(error) => drop(reply.send(Err(error))),
            },
        }
    }

    fn found(&mut self, context: &mut Context<'_>, number: u64, found: Found) {
        let Some(finding) = self.elsewhere.finding.get_mut(&number) else {
            return;
        };
        finding.found.merge(found);
        finding.missing = finding.missing.saturating_sub(1);
        if finding.missing > 0 {
            return;
        }
        let Some(Finding {
            incoming, found, ..
        }) = self.elsewhere.finding.remove(&number)
        else {
            return;
        };
        let tag = context.keyed_tag(&incoming.request);
        let contact = contact(context, &incoming.request, &incoming.flow);
        let (now, tag) = (context.now().instant, tag.as_str());
        match incoming.request.method() {
            Method::Refer => self.core.first_refer(now, &incoming, tag, contact, &found),
            _ => self.core.first_invite(now, &incoming, tag, contact, found),
        }
    }

    /// A call has taken the place of another shard's.
    pub(super) fn tell_replaced(&self, old: CallKey, by: CallKey) {
        self.write(old.shard(), Letter::Replaced { old, by });
    }

    /// Has a REFER that names another shard's call written to there; gives it back where it does not.
    pub(super) fn refers_elsewhere(
        &self,
        call: CallKey,
        refer: Box<Refer>,
        reply: ReferReply,
    ) -> Option<(Box<Refer>, ReferReply)> {
        let (other, address) = match &refer.to {
            ReferTo::Call(other, address) if other.shard() != self.shard => {
                (*other, address.clone())
            }
            _ => return Some((refer, reply)),
        };
        let letter = Letter::ReferTo {
            other,
            address,
            call,
            refer,
            reply,
        };
        self.write(other.shard(), letter);
        None
    }
}

impl Calls {
    fn find_named(&self, headers: Headers<'_>, asks: Asks) -> Found {
        Found {
            replaces: asks.replaces.then(|| self.replaced_by(headers)),
            target: asks.target.then(|| self.targeted_by(headers)),
        }
    }

    /// What a call takes the place of, where that is another shard's.
    fn replaces_elsewhere(&self, key: CallKey) -> Option<Replacing> {
        let replacing = self.calls.get(&key)?.replaces.as_ref()?;
        (replacing.old.shard() != key.shard()).then(|| (**replacing).clone())
    }

    /// A call of ours ends, since one of another shard has taken its place (RFC 3891 §3).
    pub(super) fn replaced(&mut self, old: CallKey, by: CallKey) {
        if let Ok(call) = self.call(old) {
            call.ends_as(CallEnd::Replaced(by));
            if call.confirmed().is_none() {
                call.reason = Some(reason::ELSEWHERE.into());
            }
            // It may have to wait for its ACK.
            let _ = self.hang_up(old, None);
        }
    }
}

/// INVITEs of one shard that wait for others, which takes them a turn: more than that means that they are overloaded.
const MOST_FINDING: usize = 256;

/// Seconds of the Retry-After for lack of room.
const BUSY_SECONDS: u32 = 5;
