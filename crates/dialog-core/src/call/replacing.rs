//! Calls that take the place of others: Replaces (RFC 3891), and the calls that Target-Dialog names (RFC 4538).

use std::hash::{DefaultHasher, Hash, Hasher};

use sipora_message::{HeaderName, Headers, StatusCode, Uri};

use super::core::{CallKey, Calls, Output};
use super::event::CallError;
use super::rejection::Rejection;
use super::session::SessionState;
use crate::DialogId;

/// The dialog that an INVITE of the peer's is to replace.
#[derive(Debug, Clone)]
pub(super) struct Replacing {
    pub(super) old: CallKey,
    /// The peer's tag in it.
    tag: Box<str>,
    is_early_only: bool,
}

/// Calls of ours that an INVITE names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Related {
    /// The call that it replaces.
    pub(crate) replaces: Option<CallKey>,
    /// The call in its Target-Dialog.
    pub(crate) target: Option<CallKey>,
}

impl Related {
    pub(super) fn is_any(&self) -> bool {
        self.replaces.is_some() || self.target.is_some()
    }
}

/// What other shards know of the calls that an INVITE names, where they were asked.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What it replaces, or the status that it is owed.
    pub(super) replaces: Option<Result<Option<Replacing>, StatusCode>>,
    /// What its Target-Dialog names.
    pub(super) target: Option<Option<CallKey>>,
}

impl Found {
    pub(super) fn merge(&mut self, other: Self) {
        self.replaces = other.replaces.or(self.replaces.take());
        self.target = other.target.or(self.target);
    }
}

impl Calls {
    /// Finds what an INVITE wants to replace; or the status that it is owed (RFC 3891 §3).
    pub(super) fn replaced_by(
        &self,
        headers: Headers<'_>,
    ) -> Result<Option<Replacing>, StatusCode> {
        if !self.config.takes_replaces || !headers.contains(&HeaderName::Replaces) {
            return Ok(None);
        }
        // "If more than one Replaces header field is present ... MUST reject the request with a 400"; so it is with "another
        // header field with contradictory semantics".
        let Ok(Some(named)) = headers.replaces() else {
            return Err(StatusCode::BAD_REQUEST);
        };
        if headers.contains(&HeaderName::Join) {
            return Err(StatusCode::BAD_REQUEST);
        }
        let dialog = DialogId {
            call_id: named.call_id().into(),
            local_tag: named.to_tag().into(),
            remote_tag: named.from_tag().into(),
        };
        let Some(old) = self.named(&dialog) else {
            // "If the Replaces header field matches a dialog which has already terminated, the UA SHOULD decline the request
            // with a 603": whoever was to be replaced has just hung up, and nobody wants to be rung for that.
            return Err(match self.ended.contains(&fingerprint(&dialog)) {
                true => StatusCode::DECLINE,
                false => StatusCode::CALL_DOES_NOT_EXIST,
            });
        };
        let replacing = Replacing {
            old,
            tag: named.from_tag().into(),
            is_early_only: named.is_early_only(),
        };
        self.may_replace(&replacing)?;
        Ok(Some(replacing))
    }

    /// Says whether what is to be replaced is still what it has to be.
    pub(super) fn may_replace(&self, replacing: &Replacing) -> Result<(), StatusCode> {
        let Some(call) = self.calls.get(&replacing.old) else {
            return Err(StatusCode::DECLINE);
        };
        let mut sessions = call.sessions.iter();
        let session = sessions.find(|session| is_tag(session.remote_tag(), &replacing.tag));
        match session.map(|session| session.state) {
            // "If the Replaces header field matches an early dialog that was not initiated by this UA, it returns a 481".
            Some(SessionState::Early) if !call.is_caller => Err(StatusCode::CALL_DOES_NOT_EXIST),
            Some(SessionState::Early) => Ok(()),
            // "If the flag is present, the UA rejects the request with a 486".
            Some(SessionState::Moratorium | SessionState::Established)
                if replacing.is_early_only =>
            {
                Err(StatusCode::BUSY_HERE)
            }
            Some(SessionState::Moratorium | SessionState::Established) => Ok(()),
            Some(SessionState::Mortal | SessionState::Lingering) | None => Err(StatusCode::DECLINE),
        }
    }

    /// The call and dialog that a Target-Dialog names: one of ours, or none.
    pub(super) fn targeted_by(&self, headers: Headers<'_>) -> Option<CallKey> {
        let named = headers.target_dialog().ok()??;
        self.named(&DialogId {
            call_id: named.call_id().into(),
            local_tag: named.remote_tag().into(),
            remote_tag: named.local_tag().into(),
        })
    }

    fn named(&self, dialog: &DialogId) -> Option<CallKey> {
        let key = *self.by_tag.get(&dialog.local_tag)?;
        let mut sessions = self.calls.get(&key)?.sessions.iter();
        sessions
            .any(|session| {
                session.dialog.id().call_id == dialog.call_id
                    && is_tag(session.remote_tag(), &dialog.remote_tag)
            })
            .then_some(key)
    }

    /// Refuses the INVITE of a call that may not take another's place any more.
    pub(super) fn check_replaced(&mut self, key: CallKey) -> Result<(), CallError> {
        let Some(replacing) = self.call(key)?.replaces.take() else {
            return Ok(());
        };
        // That of another shard has been looked at there.
        let checked = match replacing.old.shard() == key.shard() {
            true => self.may_replace(&replacing),
            false => Ok(()),
        };
        self.call(key)?.replaces = Some(replacing);
        if let Err(status) = checked {
            self.reject(key, &Rejection::new(status))?;
            return Err(CallError::Gone);
        }
        Ok(())
    }

    /// The call has been accepted, and the one that it replaces ends: with BYE where it is confirmed, with CANCEL where it rings
    /// (RFC 3891 §3).
    pub(super) fn take_place(&mut self, key: CallKey) {
        let replacing = self
            .calls
            .get_mut(&key)
            .and_then(|call| call.replaces.take());
        let Some(Replacing { old, .. }) = replacing.map(|replacing| *replacing) else {
            return;
        };
        self.outputs.push_back(Output::Replaced { old, by: key });
    }

    /// Remembers a dialog whose call has ended, for those that want to replace it.
    pub(super) fn remember_ended(&mut self, key: CallKey, tag: &str) {
        let call = self.calls.get(&key).filter(|_| self.config.takes_replaces);
        let Some(call) = call else {
            return;
        };
        let mut sessions = call.sessions.iter();
        if let Some(session) = sessions.find(|session| session.remote_tag() == tag) {
            let ended = fingerprint(session.dialog.id());
            if self.ended.len() >= MOST_ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(ended);
        }
    }

    /// The dialog that is confirmed, or the only early one, by name.
    pub(crate) fn dialog(&mut self, key: CallKey) -> Result<DialogId, CallError> {
        let session = self.call(key)?.only_session().ok_or(CallError::Gone)?;
        Ok(session.dialog.id().clone())
    }

    /// Refer-To for an attended transfer: whom the call is with, and what is to be replaced there (RFC 5589 §7.3). An address may lead
    /// to somebody else too: there "the Require: replaces header field SHOULD be used".
    pub(super) fn refer_to_call(
        &mut self,
        key: CallKey,
        address: Option<&Uri>,
    ) -> Result<String, CallError> {
        let session = self.call(key)?.confirmed();
        let session = session.ok_or(CallError::NotNow("the other call is not up"))?;
        let replaces = session.dialog.id().replaces()?;
        let target = address.unwrap_or(session.dialog.remote_target());
        let mut value = Uri::builder("h.invalid").header("Replaces", &replaces.to_string());
        if address.is_some() {
            value = value.header("Require", "replaces");
        }
        let value = value.build();
        let value = value.map_err(|error| CallError::Invalid(error.to_string()))?;
        let (_, header) = value.as_str().split_once('?').unwrap_or_default();
        let joint = if target.has_headers() { '&' } else { '?' };
        Ok(format!("<{target}{joint}{header}>"))
    }
}

impl DialogId {
    /// Names the dialog for an INVITE to its peer that replaces it (RFC 3891 §4): the tags as the peer sees them.
    ///
    /// # Errors
    ///
    /// [`CallError::Invalid`] where a tag or the Call-ID cannot be printed in Replaces. A peer of RFC 2543, without a tag, has 0.
    pub fn replaces(&self) -> Result<sipora_message::DialogId, CallError> {
        let remote_tag = match &*self.remote_tag {
            "" => "0",
            tag => tag,
        };
        sipora_message::DialogId::new(&self.call_id, remote_tag, &self.local_tag)
            .map_err(|error| CallError::Invalid(error.to_string()))
    }

    /// Names the dialog for a request to its peer, outside of it, that is to be let in because of it (RFC 4538 §5).
    ///
    /// # Errors
    ///
    /// As [`replaces`](Self::replaces).
    pub fn target_dialog(&self) -> Result<sipora_message::TargetDialog, CallError> {
        sipora_message::TargetDialog::new(&self.call_id, &self.local_tag, &self.remote_tag)
            .map_err(|error| CallError::Invalid(error.to_string()))
    }
}

/// RFC 3891 §6.1: 0 stands for the tag of a peer of RFC 2543, which has none.
fn is_tag(known: &str, named: &str) -> bool {
    known == named || (known.is_empty() && named == "0")
}

/// Two dialogs may share one, and an INVITE then gets 603 for 481.
fn fingerprint(dialog: &DialogId) -> u64 {
    let mut hasher = DefaultHasher::new();
    dialog.hash(&mut hasher);
    hasher.finish()
}

/// Dialogs that have ended and are remembered: those of a few seconds.
const MOST_ENDED: usize = 1024;
