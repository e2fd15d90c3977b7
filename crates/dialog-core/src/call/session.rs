//! One dialog of a call, and what it is worth (RFC 5407 §2).

use std::time::Instant;

use sipora_message::{HeaderName, Headers, Method, Response};

use super::offer::OfferAnswer;
use super::packages::Packages;
use super::referred::Referred;
use super::referring::Referring;
use super::said::Said;
use crate::Dialog;

/// Where a dialog stands between its first provisional answer and its end, by the names of RFC 5407 §2.
///
/// ```text
///              1xx, To tag          2xx                 ACK
///   INVITE ───────────────▶ Early ───────▶ Moratorium ───────▶ Established
///                             │                │                   │
///                 3xx-6xx,    │                │ BYE sent          │ BYE sent
///                 BYE         │                ▼                   │
///                             │             Mortal ◀───────────────┘
///                             ▼                │ BYE answered, or BYE received
///                           (gone) ◀───────────┤   (in any state)
///                             ▲                ▼ a REFER is still told of
///                             └────────── Lingering
/// ```
///
/// A dialog begins in Moratorium where the 2xx is the first answer with its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionState {
    /// There is a provisional answer.
    Early,
    /// There is a 2xx, and no ACK to it.
    Moratorium,
    /// The ACK was sent or received.
    Established,
    /// The call in it is over, and the subscription of a REFER is not: "ending an invite usage with a BYE does not terminate any
    /// active Event: refer subscriptions established on that dialog" (RFC 5057 §5.5).
    Lingering,
    /// A BYE of ours has no answer yet. "The UA MUST NOT send any new requests" (RFC 5407 §2).
    Mortal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionInput {
    Accepted,
    Acknowledged,
    ByeSent,
}

impl SessionState {
    fn on(self, input: SessionInput) -> Self {
        match (self, input) {
            (Self::Lingering, _) => Self::Lingering,
            (Self::Mortal, _) | (_, SessionInput::ByeSent) => Self::Mortal,
            // A 2xx is repeated after its ACK, which was lost (RFC 3261 §13.3.1.4).
            (Self::Established, _) | (Self::Moratorium, SessionInput::Acknowledged) => {
                Self::Established
            }
            (Self::Moratorium | Self::Early, SessionInput::Accepted) => Self::Moratorium,
            (Self::Early, SessionInput::Acknowledged) => Self::Early,
        }
    }
}

/// A dialog of a call.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) dialog: Dialog,
    pub(super) state: SessionState,
    pub(super) offer: OfferAnswer,
    /// What we have said of the session last, to be said again.
    pub(super) said: Option<Said>,
    /// An Allow of the peer's listed UPDATE (RFC 3311 §4).
    pub(super) allows_update: bool,
    /// Reliable provisional answers that we have acknowledged, and whose PRACK has no answer yet.
    pub(super) pracks: u8,
    /// The peer's BYE has met ours.
    pub(super) both_ended: bool,
    extras: Option<Box<Extras>>,
}

/// What a session was by, as an answer of ours changes it.
#[derive(Debug)]
pub(super) struct Held {
    said: Option<Said>,
    offer: OfferAnswer,
}

/// What most dialogs do without.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// The packages of INFO that the peer takes.
    packages: Option<Packages>,
    /// REFERs of ours that the peer tells of.
    pub(super) referring: Vec<Referring>,
    /// REFERs of the peer's.
    pub(super) referred: Vec<Referred>,
    /// There was one.
    pub(super) was_referred: bool,
}

impl Session {
    pub(super) fn new(dialog: Dialog, offer: OfferAnswer) -> Self {
        Self {
            dialog,
            state: SessionState::Early,
            offer,
            said: None,
            allows_update: false,
            both_ended: false,
            pracks: 0,
            extras: None,
        }
    }

    /// Takes what a message of the peer's says that it understands from now on, where it says so: Allow, and the packages of INFO.
    /// "The set is valid until the UA sends a new Recv-Info header field" (RFC 6086 §5.2.2).
    pub(super) fn learn(&mut self, headers: Headers<'_>) {
        if headers.contains(&HeaderName::Allow) {
            self.allows_update = headers.allow().any(|method| method == Method::Update);
        }
        if let Some(packages) = Packages::read(headers) {
            self.extras.get_or_insert_default().packages = Some(packages);
        }
    }

    /// What the session is by.
    pub(super) fn holds(&self) -> Held {
        Held {
            said: self.said.clone(),
            offer: self.offer,
        }
    }

    /// What was answered was refused after all: the session is by what it was before, and no offer is open.
    pub(super) fn restores(&mut self, held: Held) {
        self.said = held.said;
        self.offer = held.offer;
        self.offer.withdrawn();
    }

    /// The exchange that was open has failed. An offer that we made in an answer was said last and never held, so that nothing is
    /// known to be told again.
    pub(super) fn answer_withdrawn(&mut self) {
        if self.offer.is_ours() {
            self.said = None;
            self.offer.forget();
        }
        self.offer.withdrawn();
    }

    /// Says whether an UPDATE may carry an offer, of either side's: none is open, and in an early dialog there is a session
    /// (RFC 3311 §5.1).
    pub(super) fn may_offer(&self) -> bool {
        let is_open = self.offer.is_ours() || self.offer.is_theirs();
        !is_open && (self.is_confirmed() || self.offer.has_session)
    }

    pub(super) fn on(&mut self, input: SessionInput) {
        self.state = self.state.on(input);
    }

    pub(super) fn is_confirmed(&self) -> bool {
        matches!(
            self.state,
            SessionState::Moratorium | SessionState::Established
        )
    }

    pub(super) fn remote_tag(&self) -> &str {
        &self.dialog.id().remote_tag
    }

    /// What most dialogs do without, made now if it was not there.
    pub(super) fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    pub(super) fn has_extras(&self) -> bool {
        self.extras.is_some()
    }

    pub(super) fn referring_and_dialog(&mut self) -> (&mut Vec<Referring>, &mut Dialog) {
        let extras = self.extras.get_or_insert_default();
        (&mut extras.referring, &mut self.dialog)
    }

    pub(super) fn referred_and_dialog(&mut self) -> (&mut Vec<Referred>, &mut Dialog) {
        let extras = self.extras.get_or_insert_default();
        (&mut extras.referred, &mut self.dialog)
    }

    /// The subscription of a REFER lives in the dialog.
    pub(super) fn has_refers(&self) -> bool {
        let Some(extras) = &self.extras else {
            return false;
        };
        !extras.referring.is_empty() || extras.referred.iter().any(Referred::is_live)
    }

    /// When a REFER wants something to be done.
    pub(super) fn refer_deadline(&self) -> Option<Instant> {
        let extras = self.extras.as_ref()?;
        let ours = extras.referring.iter().map(|referring| referring.ends);
        let theirs = extras.referred.iter().map(|referred| referred.ends);
        ours.chain(theirs).min()
    }

    /// The call in it goes on: nothing has ended it, and no BYE is on its way.
    pub(super) fn is_up(&self) -> bool {
        !matches!(self.state, SessionState::Mortal | SessionState::Lingering)
    }

    /// The packages of INFO that the peer takes, where it has named any.
    pub(super) fn packages(&self) -> Option<&Packages> {
        self.extras.as_ref()?.packages.as_ref()
    }

    /// There was a REFER of the peer's.
    pub(super) fn was_referred(&self) -> bool {
        self.extras.as_ref().is_some_and(|it| it.was_referred)
    }

    /// Takes what was known of the dialog in another process.
    pub(super) fn restore(&mut self, packages: Option<Packages>, was_referred: bool) {
        if packages.is_some() || was_referred {
            let extras = self.extras();
            extras.packages = packages;
            extras.was_referred = was_referred;
        }
    }

    /// Says whether the peer takes this package of INFO.
    pub(super) fn takes_package(&self, package: &str) -> bool {
        self.packages()
            .is_some_and(|packages| packages.contain(package))
    }

    /// Takes a 2xx to the INVITE that made the dialog.
    pub(super) fn accepted(&mut self, response: &Response) {
        self.dialog.confirm(response);
        self.on(SessionInput::Accepted);
    }
}

/// The To tag of a message, or nothing.
pub(super) fn to_tag(headers: Headers<'_>) -> Option<Box<str>> {
    headers.to().ok()?.tag().map(Box::from)
}

#[cfg(test)]
mod tests {
    use super::SessionInput::*;
    use super::SessionState::*;
    use super::*;

    const STATES: [SessionState; 5] = [Early, Moratorium, Established, Mortal, Lingering];

    #[test]
    fn a_dialog_is_accepted_then_acknowledged_and_ends_with_a_bye() {
        assert_eq!(Early.on(Accepted), Moratorium);
        assert_eq!(Moratorium.on(Acknowledged), Established);
        assert_eq!(Established.on(ByeSent), Mortal);
    }

    #[test]
    fn nothing_brings_a_dialog_back() {
        for state in STATES {
            let gone = if state == Lingering {
                Lingering
            } else {
                Mortal
            };
            assert_eq!(state.on(ByeSent), gone);
        }
        for input in [Accepted, Acknowledged, ByeSent] {
            assert_eq!(Lingering.on(input), Lingering);
        }
        assert_eq!(Mortal.on(Accepted), Mortal);
        assert_eq!(Mortal.on(Acknowledged), Mortal);
        assert_eq!(Established.on(Accepted), Established);
    }
}
