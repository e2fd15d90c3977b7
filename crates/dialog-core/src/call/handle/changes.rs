//! How an application changes the session, or ends a part of what is to become one.

use super::Call;
use crate::Body;
use crate::call::command::Act;
use crate::call::event::CallError;

impl Call {
    /// Asks the peer to change the session: with an offer, to hold and resume too, or for an offer of its own with `None`.
    /// [`CallEvent::ReinviteAccepted`](crate::CallEvent::ReinviteAccepted) or [`CallEvent::ReinviteRefused`](crate::CallEvent::ReinviteRefused) follows; while it is under way, the session is as before.
    ///
    /// A re-INVITE that meets the peer's (491) is sent again after the time of RFC 3261 §14.1, unless the call ends before, with the
    /// same offer: who answers the peer's meanwhile has another sent by [`reoffer`](Self::reoffer).
    ///
    /// # Errors
    ///
    /// [`CallError::NotNow`] while another INVITE is under way, in either direction; [`CallError::BodyNeeded`] where `body` is empty.
    pub async fn reinvite(&self, body: Option<Body>) -> Result<(), CallError> {
        self.act(Act::Reinvite(body)).await
    }

    /// Replaces the offer of a [`reinvite`](Self::reinvite) or [`update`](Self::update) that met the peer's (491) and waits to be sent
    /// again: before the peer's is answered, since a description that differs from the last has a higher version (RFC 3264 §8).
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where none waits; [`CallError::BodyNeeded`] where `body` is no session description.
    pub async fn reoffer(&self, body: Body) -> Result<(), CallError> {
        self.act(Act::Reoffer(body)).await
    }

    /// Refreshes the session by a re-INVITE that says once more what holds, as [`CallEvent::RefreshDue`](crate::CallEvent::RefreshDue) asks for: its answer is told
    /// only where it is another than before, and a refusal is not.
    ///
    /// # Errors
    ///
    /// As [`reinvite`](Self::reinvite), and where no session timer runs; [`CallError::BodyNeeded`] where `body` is no session
    /// description.
    pub async fn refresh(&self, body: Body) -> Result<(), CallError> {
        self.act(Act::Refresh(body)).await
    }

    /// Changes the session by UPDATE (RFC 3311), which the peer has to answer at once: with an offer, or with `None` to tell where we
    /// can be reached. It goes into the dialog that is confirmed, or the only early one.
    /// [`CallEvent::UpdateAccepted`](crate::CallEvent::UpdateAccepted) or [`CallEvent::UpdateRefused`](crate::CallEvent::UpdateRefused) follows. When the call is up, [`reinvite`](Self::reinvite) is
    /// "RECOMMENDED" (§5.1).
    ///
    /// One that meets an offer of the peer's (491) is sent again after the time of §5.3, unless the call ends before, with the same
    /// offer. Until then there is no other change, and another offer in its place by [`reoffer`](Self::reoffer) alone.
    ///
    /// # Errors
    ///
    /// [`CallError::NotSupported`] where the peer has not said that it understands UPDATE; [`CallError::NotNow`] while another
    /// UPDATE is under way or an offer has no answer, before there is an early dialog and before it has a session, and where there are
    /// several such. That is also so while the PRACK that was sent with the answer to our offer, as
    /// [`CallEvent::Progress`](crate::CallEvent::Progress) tells of it, has no 2xx yet, a round trip later: the UPDATE might come first (RFC
    /// 6337 §4.2). [`CallError::BodyNeeded`] where `body` is empty.
    pub async fn update(&self, body: Option<Body>) -> Result<(), CallError> {
        self.act(Act::Update(None, body)).await
    }

    /// Does what [`update`](Self::update) does, in the dialog with the user agent with this To tag.
    ///
    /// # Errors
    ///
    /// As there; [`CallError::Gone`] where there is no such dialog.
    pub async fn update_early(&self, to_tag: &str, body: Option<Body>) -> Result<(), CallError> {
        self.act(Act::Update(Some(to_tag.into()), body)).await
    }

    /// Ends one early dialog of our INVITE, that of the user agent with this To tag, with BYE; the others ring on. Rarely wanted
    /// (RFC 3261 §15): [`hang_up`](Self::hang_up) cancels them all.
    ///
    /// # Errors
    ///
    /// [`CallError::Gone`] where there is no such early dialog.
    pub async fn end_early(&self, to_tag: &str) -> Result<(), CallError> {
        self.act(Act::EndEarly(to_tag.into())).await
    }
}
