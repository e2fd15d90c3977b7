//! [`Call`]: what is known of one call.

use std::sync::Arc;
use std::time::Instant;

use sipora_message::{RAck, Uri};
use sipora_transaction_core::Target;
use sipora_transport::Flow;

use super::core::ExchangeKey;
use super::event::CallEnd;
use super::handover::Acknowledging;
use super::offered::Offered;
use super::outside::Outside;
use super::reliable::Refused;
use super::replacing::Replacing;
use super::server::InviteServer;
use super::session::{Session, SessionState};
use super::timer::SessionTimer;
use super::update::Updating;
use crate::{Authorizer, Body};

/// One call: an INVITE, the dialogs that came of it, and what goes on in them.
pub(super) struct Call {
    pub(super) local_tag: Box<str>,
    /// We sent the INVITE that began it: we own the Call-ID (RFC 3261 §14.1), and may end early dialogs with BYE (§15).
    pub(super) is_caller: bool,
    /// Our Contact, as it is printed.
    pub(super) contact: Box<str>,
    pub(super) authorizer: Option<Arc<dyn Authorizer>>,
    /// Its dialogs: several early ones, at most one that is confirmed.
    pub(super) sessions: Vec<Session>,
    /// Our INVITE, until it has its final answer and that its ACK.
    pub(super) client: Option<ExchangeKey>,
    /// The peer's INVITEs: at most one without final answer, and those whose ACK is still to come.
    pub(super) servers: Vec<InviteServer>,
    /// Requests of the application's without answer.
    pub(super) asking: u8,
    /// It is to end as soon as it may: there is no ACK yet (§15).
    pub(super) hangs_up: bool,
    /// A re-INVITE or UPDATE that met the peer's, and when it is sent again.
    pub(super) glare: Option<Box<Glare>>,
    /// An offer of the peer's in a PRACK or UPDATE, until the application answers it.
    pub(super) offered: Option<Box<Offered>>,
    /// Our UPDATE, until it has its final answer.
    pub(super) updating: Option<Box<Updating>>,
    /// An offer has been answered since the last re-INVITE, of either side, began (RFC 6141 §3.3).
    pub(super) has_changed: bool,
    /// A reliable provisional answer of ours whose PRACK may still come, after the ACK.
    pub(super) late_prack: Option<Box<RAck>>,
    /// One to a re-INVITE that was refused.
    pub(super) refused: Option<Box<Refused>>,
    /// The connection that the peer came by, with nobody between.
    pub(super) flow: Option<Box<Flow>>,
    /// It had one in another process, and takes that of the peer's next request.
    pub(super) wants_flow: bool,
    /// What is acknowledged once more, for another process.
    pub(super) acknowledging: Option<Box<Acknowledging>>,
    /// How long its session lasts, where that is limited.
    pub(super) timer: Option<Box<SessionTimer>>,
    /// It is no call but a REFER outside of dialogs.
    pub(super) outside: Option<Box<Outside>>,
    /// What it takes the place of once it is accepted.
    pub(super) replaces: Option<Box<Replacing>>,
    /// When our INVITE has expired (RFC 3261 §13.2.1).
    pub(super) expires: Option<Instant>,
    /// How it ends, where that is decided before it is over.
    pub(super) end: Option<Box<CallEnd>>,
    /// The highest Min-SE of the 422s to its re-INVITEs and UPDATEs (RFC 4028 §7.4); 0 without.
    pub(super) min_se: u32,
    /// Why we end it: the value of Reason (RFC 3326).
    pub(super) reason: Option<Box<str>>,
    pub(super) alarm: Option<Instant>,
}

pub(super) struct Glare {
    pub(super) at: Instant,
    pub(super) body: Option<Body>,
    pub(super) count: u8,
    /// It refreshes the session and changes nothing.
    pub(super) is_refresh: bool,
    /// It was an UPDATE, in the dialog with this tag of the peer's.
    pub(super) update: Option<Box<str>>,
}

impl Call {
    pub(super) fn new(is_caller: bool, local_tag: &str, contact: String) -> Self {
        Self {
            local_tag: local_tag.into(),
            is_caller,
            contact: contact.into(),
            authorizer: None,
            sessions: Vec::new(),
            client: None,
            servers: Vec::new(),
            asking: 0,
            hangs_up: false,
            glare: None,
            offered: None,
            updating: None,
            has_changed: false,
            late_prack: None,
            refused: None,
            min_se: 0,
            flow: None,
            wants_flow: false,
            acknowledging: None,
            timer: None,
            outside: None,
            replaces: None,
            expires: None,
            end: None,
            reason: None,
            alarm: None,
        }
    }

    /// Says how it ends, unless that is decided already.
    pub(super) fn ends_as(&mut self, end: CallEnd) {
        self.end.get_or_insert_with(|| Box::new(end));
    }

    pub(super) fn session(&mut self, remote_tag: &str) -> Option<&mut Session> {
        let matches = |session: &&mut Session| session.remote_tag() == remote_tag;
        self.sessions.iter_mut().find(matches)
    }

    /// The dialog that is confirmed.
    pub(super) fn confirmed(&mut self) -> Option<&mut Session> {
        self.sessions
            .iter_mut()
            .find(|session| session.is_confirmed())
    }

    /// The dialog that is confirmed, or the only early one.
    pub(super) fn only_session(&mut self) -> Option<&mut Session> {
        let at = self.sessions.iter().position(Session::is_confirmed);
        match (at, self.sessions.len()) {
            (Some(at), _) => self.sessions.get_mut(at),
            (None, 1) => self.sessions.first_mut(),
            _ => None,
        }
    }

    /// The offer that is open in the dialog with this tag of the peer's is one in an UPDATE or a PRACK, which is a matter of its own
    /// beside an INVITE.
    pub(super) fn updates_with_offer(&self, tag: &str) -> bool {
        let updating = self.updating.as_ref();
        let offered = self.offered.as_ref();
        updating.is_some_and(|updating| updating.offers_in(tag))
            || offered.is_some_and(|offered| *offered.tag == *tag)
    }

    /// The peer has had an answer to its INVITE that makes a dialog.
    pub(super) fn has_answered(&self) -> bool {
        let mut servers = self.servers.iter();
        !servers.any(|server| server.is_first && server.is_silent())
    }

    /// It has a dialog that is confirmed, and no BYE is on its way.
    pub(super) fn is_up(&self) -> bool {
        self.sessions.iter().any(Session::is_confirmed)
    }

    /// The dialog with this tag of the peer's goes on.
    pub(super) fn is_up_in(&self, tag: &str) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|session| session.remote_tag() == tag && session.is_up())
    }

    /// It has not been accepted, and may be.
    pub(super) fn is_to_come(&self) -> bool {
        let mut sessions = self.sessions.iter();
        self.end.is_none() && sessions.all(|session| session.state == SessionState::Early)
    }

    pub(super) fn has_early(&self) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|session| session.state == SessionState::Early)
    }

    /// The peer's INVITE that has no final answer.
    pub(super) fn pending_server(&mut self) -> Option<&mut InviteServer> {
        self.servers.iter_mut().find(|server| server.is_pending())
    }

    /// Says whether an INVITE of the peer's keeps offers out of UPDATEs: one without an offer, to which we shall make one, or one
    /// with a reliable provisional answer that describes and has no PRACK yet (RFC 6337 §4.3, UAC-IU, UAS-IsU).
    pub(super) fn has_unsettled_invite(&self) -> bool {
        let mut servers = self.servers.iter();
        servers.any(|server| {
            let reliable = server.reliable.as_ref();
            let holds = reliable.is_some_and(|reliable| reliable.holds_2xx());
            holds || (server.is_pending() && server.owes_offer())
        })
    }

    pub(super) fn unacknowledged(&self) -> bool {
        self.servers.iter().any(|server| !server.is_pending())
    }

    /// Where a request of its dialogs goes: by its route set, or back over the connection that the peer came by, since who
    /// sits behind a NAT or in a browser can be reached in no other way.
    pub(super) fn way(&self, next_hop: &Uri) -> (Target, Option<Uri>) {
        match &self.flow {
            Some(flow) => (Target::Flow(**flow), Some(next_hop.clone())),
            None => (Target::Uri(next_hop.clone()), None),
        }
    }

    pub(super) fn add_session(&mut self, session: Session) {
        // Most calls have one; four, which a vector begins with, are most of what a call holds.
        self.sessions.reserve_exact(1);
        self.sessions.push(session);
    }

    pub(super) fn add_server(&mut self, server: InviteServer) {
        self.servers.reserve_exact(1);
        self.servers.push(server);
    }

    /// A call that is up holds no more than it needs: it is so for most of its life.
    pub(super) fn trim(&mut self, answers_refreshes: bool) {
        if !answers_refreshes && self.timer.is_none() && self.servers.is_empty() {
            let up = self.sessions.iter_mut().filter(|it| it.is_confirmed());
            up.for_each(|session| session.said = None);
        }
        if self.servers.is_empty() && self.servers.capacity() > 0 {
            self.servers = Vec::new();
        }
        if self.sessions.len() == 1 && self.sessions.capacity() > 1 {
            self.sessions.shrink_to_fit();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        let is_open = self.outside.as_ref().is_some_and(|it| it.is_open());
        let is_empty = self.sessions.is_empty() && self.servers.is_empty();
        is_empty && self.client.is_none() && !is_open
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let servers = self.servers.iter().filter_map(InviteServer::deadline);
        let glare = self.glare.as_ref().map(|glare| glare.at);
        let refers = self.sessions.iter().filter_map(Session::refer_deadline);
        let offered = self.offered.as_ref().map(|offered| offered.gives_up);
        let timer = self.timer.as_ref().map(|timer| timer.at);
        let again = self.acknowledging.as_ref().map(|again| again.next);
        let outside = self.outside.as_ref().and_then(|it| it.deadline());
        let ours = [glare, offered, timer, again, self.expires, outside];
        servers
            .chain(ours.into_iter().flatten())
            .chain(refers)
            .min()
    }
}
