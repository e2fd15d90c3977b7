//! How the user does what it is asked.

use std::time::Instant;

use sipora_transaction_core::Context;
use tokio::sync::oneshot;

use super::command::{Act, Command, Last, Left, Offered, Open, Restore};
use super::core::{CallKey, ExchangeKey};
use super::event::CallError;
use super::inbox::Inbox;
use super::refer::{ReferAnswer, ReferId};
use super::user::{CallUser, Reply};

impl CallUser {
    pub(super) fn obey(&mut self, context: &mut Context<'_>, command: Command) {
        match command {
            Command::Invite(open) => self.open(context, open),
            Command::Act(key, act @ Act::AcceptReplacing(_), reply) => {
                self.accept_replacing(context, key, act, reply);
            }
            // Who would tell what comes of it has gone without knowing that it is accepted.
            Command::Act(_, Act::AcceptRefer(_), reply) if reply.is_closed() => {}
            Command::Act(key, act, reply) => {
                let result = self.act(context.now().instant, key, act);
                // Who does not wait for the outcome does not want it.
                let _ = reply.send(result);
            }
            Command::Answer(key, act, read, reply) => {
                let result = match self.core.waits_for_answer(key, read, &act) {
                    true => self.act(context.now().instant, key, act),
                    // It is over, and another waits that the application has not seen.
                    false => Err(CallError::Gone),
                };
                let _ = reply.send(result);
            }
            Command::Ask(key, request, reply) => match self.core.ask(key, *request) {
                Ok(asked) => drop(self.asked.insert(asked, Reply::Request(reply))),
                Err(error) => drop(reply.send(Err(error))),
            },
            Command::Dialog(key, reply) => drop(reply.send(self.core.dialog(key))),
            // Who does not wait for the state does not want it, and the call stays.
            Command::Export(_, reply) | Command::Detach(_, reply) if reply.is_closed() => {}
            Command::DetachAll(reply) if reply.is_closed() => {}
            Command::Export(key, reply) => {
                let now = context.now().instant;
                drop(reply.send(self.core.export(now, key)));
            }
            Command::Detach(key, reply) => {
                let now = context.now().instant;
                if let Err(Ok(state)) = reply.send(self.core.detach(now, key)) {
                    self.core.end_detached(now, [state]);
                }
            }
            Command::DetachAll(reply) => {
                let now = context.now().instant;
                if let Err(states) = reply.send(self.core.detach_all(now)) {
                    self.core.end_detached(now, states);
                }
            }
            Command::Restore(restore) => self.restore(context, restore),
            Command::End(states) => self.core.end_detached(context.now().instant, states),
            Command::Letter(letter) => self.read(context, *letter),
            Command::Refer(key, refer, reply) => {
                let Some((refer, reply)) = self.refers_elsewhere(key, refer, reply) else {
                    return;
                };
                let now = context.now().instant;
                match self.core.refer(now, key, *refer) {
                    Ok((id, asked)) => self.wait_for_refer(asked, id, reply),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Command::ReferOutside(open) => self.refer_outside(context, *open),
            Command::Reap => {}
        }
    }

    /// Keeps who waits for the answer to a REFER.
    pub(super) fn wait_for_refer(
        &mut self,
        asked: ExchangeKey,
        id: ReferId,
        reply: oneshot::Sender<Result<ReferAnswer, CallError>>,
    ) {
        self.asked.insert(asked, Reply::Refer(id, reply));
    }

    fn open(&mut self, context: &mut Context<'_>, mut open: Box<Open>) {
        if self.has_others() {
            // What comes of the call comes to the shard that its Call-ID leads to.
            let call_id = match open.invite.call_id.take() {
                Some(call_id) => call_id,
                None => self.call_id(context),
            };
            let home = context.home(&call_id);
            open.invite.call_id = Some(call_id);
            if home != self.shard {
                return self.hand_over(home, Command::Invite(open));
            }
        }
        let Open {
            invite,
            authorizer,
            reply,
        } = *open;
        if reply.is_closed() {
            return;
        }
        let now = context.now().instant;
        let key = self.core.invite(now, invite, authorizer);
        self.begun(key, reply);
    }

    /// A Call-ID that leads here: one in as many as there are shards does.
    pub(super) fn call_id(&self, context: &mut Context<'_>) -> String {
        loop {
            let call_id = context.ids().call_id();
            if context.home(call_id.as_str()) == self.shard {
                return call_id.as_str().to_owned();
            }
        }
    }

    fn restore(&mut self, context: &mut Context<'_>, restore: Box<Restore>) {
        let home = context.home(&restore.state.dialog().call_id);
        if home != self.shard {
            return self.hand_over(home, Command::Restore(restore));
        }
        let Restore {
            state,
            authorizer,
            reply,
        } = *restore;
        if reply.is_closed() {
            return;
        }
        let now = context.now().instant;
        let key = self.core.restore(now, state, authorizer);
        self.begun(key, reply);
    }

    /// Gives a call that has begun here to who wanted it.
    fn begun(
        &mut self,
        key: Result<CallKey, CallError>,
        reply: oneshot::Sender<Result<Offered, CallError>>,
    ) {
        match key {
            Ok(key) => {
                let inbox = self.link(key);
                let offered = Offered {
                    key,
                    invite: None,
                    related: None,
                    inbox,
                };
                if reply.send(Ok(offered)).is_err() {
                    let _ = self.core.hang_up(key, None);
                }
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn link(&mut self, key: CallKey) -> Inbox {
        let (feeder, inbox) = Inbox::new();
        self.links.insert(key, feeder);
        inbox
    }

    pub(super) fn act(&mut self, now: Instant, key: CallKey, act: Act) -> Result<(), CallError> {
        match act {
            Act::Progress(answer, reliably) => self.core.progress(now, key, answer, reliably),
            Act::Accept(body) => self.core.accept(now, key, body),
            Act::AcceptReplacing(body) => self.core.accept_replacing(now, key, body),
            Act::Reject(rejection) => self.core.reject(key, &rejection),
            Act::Acknowledge(body) => self.core.acknowledge(key, body),
            Act::AcknowledgeProgress(tag, body) => self.core.acknowledge_progress(key, &tag, &body),
            Act::Answer(body) => self.core.answer_offer(now, key, &body),
            Act::Refuse(status) => self.core.refuse_offer(now, key, status),
            Act::Reinvite(body) => self.core.reinvite(key, body),
            Act::Reoffer(body) => self.core.reoffer(key, body),
            Act::Refresh(body) => self.core.refresh_with(key, body),
            Act::Update(tag, body) => self.core.update(key, tag.as_deref(), body),
            Act::EndEarly(tag) => self.core.end_early(key, &tag),
            Act::AcceptRefer(id) => self.core.accept_refer(now, key, id),
            Act::RejectRefer(id, status) => self.core.reject_refer(now, key, id, status),
            Act::ReportRefer(id, status) => self.core.report_refer(now, key, id, status),
            Act::HangUp(reason) => self.core.hang_up(key, reason.as_ref()),
        }
    }

    pub(super) fn reap(&mut self, now: Instant) {
        let mut calls = Vec::new();
        // Where it is over already there is nothing to end, and nobody to tell.
        for left in self.ways.way(self.shard).abandoned.take() {
            let _ = match left {
                Left::Call(key) => {
                    calls.push(key);
                    Ok(())
                }
                Left::Refer(key, id, Last::Reported(status)) => {
                    self.core.report_refer(now, key, id, status)
                }
                Left::Refer(key, id, Last::Rejected(status)) => {
                    self.core.reject_refer(now, key, id, status)
                }
            };
        }
        // A call that is dropped with what it has to tell tells it first.
        for key in calls {
            let _ = self.core.abandon(now, key);
        }
    }
}
