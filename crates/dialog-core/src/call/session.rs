//! One dialog of a call, and what it is worth (RFC 5407 §2).

use sipora_message::{Headers, Response};

use super::offer::OfferAnswer;
use super::packages::Packages;
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
///                           (gone) ◀───────────┘   (in any state)
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
    extras: Option<Box<Extras>>,
}

/// What most dialogs do without.
#[derive(Debug, Default)]
struct Extras {
    /// The packages of INFO that the peer takes.
    packages: Option<Packages>,
}

impl Session {
    pub(super) fn new(dialog: Dialog, offer: OfferAnswer) -> Self {
        Self {
            dialog,
            state: SessionState::Early,
            offer,
            extras: None,
        }
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

    /// Reads which packages of INFO the peer takes from now on, if the message says so. "The set is valid until the UA sends a new
    /// Recv-Info header field" (RFC 6086 §5.2.2).
    pub(super) fn learn_packages(&mut self, headers: Headers<'_>) {
        if let Some(packages) = Packages::read(headers) {
            self.extras.get_or_insert_default().packages = Some(packages);
        }
    }

    /// Says whether the peer takes this package of INFO.
    pub(super) fn takes_package(&self, package: &str) -> bool {
        let packages = self.extras.as_ref().and_then(|it| it.packages.as_ref());
        packages.is_some_and(|packages| packages.contain(package))
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

    const STATES: [SessionState; 4] = [Early, Moratorium, Established, Mortal];

    #[test]
    fn a_dialog_is_accepted_then_acknowledged_and_ends_with_a_bye() {
        assert_eq!(Early.on(Accepted), Moratorium);
        assert_eq!(Moratorium.on(Acknowledged), Established);
        assert_eq!(Established.on(ByeSent), Mortal);
    }

    #[test]
    fn nothing_brings_a_dialog_back() {
        for state in STATES {
            assert_eq!(state.on(ByeSent), Mortal);
        }
        assert_eq!(Mortal.on(Accepted), Mortal);
        assert_eq!(Mortal.on(Acknowledged), Mortal);
        assert_eq!(Established.on(Accepted), Established);
    }
}
