//! What we have said of the session: the ground for holding and resuming it.

use std::borrow::Cow;

use sipora_dialog_core::CallEvent as Event;
use sipora_message::{Method, Request, Response};

use super::direction::{is_same_origin, version, with_version};
use super::event::description;

/// The descriptions of ours in one call.
#[derive(Debug, Default)]
pub(super) struct Described {
    /// What the session is by.
    current: Option<Box<str>>,
    /// What was asked for, and has no answer yet, the oldest first. One at most is under way; the others are of those who have stopped
    /// waiting before they heard whether it is theirs.
    asked: Vec<Asked>,
    /// How often something was asked for.
    times: u64,
    /// The peer's INVITE that waits for an answer, or for the ACK to an offer.
    invited: Option<Invited>,
    /// The highest version that was ever said: the peer may have seen it, even where it refused.
    version: u64,
    /// What was said to whom, until our INVITE that begins the call is accepted.
    ringing: Option<Ringing>,
    /// Whose offer, in an UPDATE or PRACK, waits, by the peer's tag.
    asker: Option<Box<str>>,
}

/// What was said before one of several user agents has accepted: offers and answers are each dialog's own (RFC 3261 §13.2.2.4).
#[derive(Debug, Default)]
struct Ringing {
    /// The offer of the INVITE.
    offered: Option<Box<str>>,
    /// What was said since, by the peers' tags: forks, of which there are 32.
    said: Vec<(Box<str>, Box<str>)>,
}

/// What was said to an INVITE of the peer's. It is what the session is by once the exchange is complete: where the INVITE carries
/// the offer at once, else when the PRACK or the ACK has the answer (RFC 3262 §5, RFC 3261 §13.2.2.4).
#[derive(Debug)]
struct Invited {
    cseq: u32,
    has_offer: bool,
    /// Said before it was accepted. The peer takes the first description of several (RFC 3261 §13.2.1).
    early: Option<Box<str>>,
    /// The offer in the 2xx.
    offered: Option<Box<str>>,
    /// The exchange is complete.
    is_settled: bool,
    /// What held before it was accepted, which the want of a PRACK, or a CANCEL, may undo.
    before: Option<Option<Box<str>>>,
}

impl Invited {
    fn by(invite: &Request) -> Self {
        let headers = invite.headers();
        Self {
            cseq: headers.cseq().map_or(0, |cseq| cseq.number),
            has_offer: description(&headers, invite.body()).is_some(),
            early: None,
            offered: None,
            is_settled: false,
            before: None,
        }
    }
}

/// A re-INVITE of ours.
#[derive(Debug)]
struct Asked {
    name: u64,
    /// None where it asks the peer for an offer.
    offered: Option<Offered>,
}

/// An offer of ours.
#[derive(Debug, Clone)]
pub(super) struct Offered {
    pub(super) sdp: Box<str>,
    /// How it was made of what the session is by; none where the application has made it.
    change: Option<Change>,
}

/// Changes a description: holds the peer, or takes that back.
pub(super) type Change = fn(&str) -> String;

impl Described {
    pub(super) fn new(sdp: Option<&str>) -> Self {
        let mut described = Self::default();
        if let Some(sdp) = sdp {
            described.says(sdp);
        }
        described.ringing = Some(Ringing {
            offered: described.current.clone(),
            said: Vec::new(),
        });
        described
    }

    /// Begins anew, at another place.
    pub(super) fn redirected(&mut self, sdp: Option<&str>) {
        let version = self.version;
        *self = Self::new(sdp);
        self.version = self.version.max(version);
    }

    /// Answers the offer in an UPDATE or a PRACK.
    pub(super) fn answers(&mut self, sdp: &str) {
        match self.asker.take() {
            Some(tag) => self.says_to(tag, sdp),
            None => self.says(sdp),
        }
    }

    /// Says it to one user agent, which may not be who accepts.
    pub(super) fn says_to(&mut self, tag: Box<str>, sdp: &str) {
        if let Some(ringing) = &mut self.ringing {
            ringing.said.retain(|(known, _)| *known != tag);
            ringing.said.push((tag, sdp.into()));
        }
        self.says(sdp);
    }

    /// Begins with the peer's INVITE.
    pub(super) fn invited(invite: Option<&Request>) -> Self {
        Self {
            invited: invite.map(Invited::by),
            ..Self::default()
        }
    }

    /// Goes on from what another process has said.
    pub(super) fn restored(current: Option<Box<str>>, version: u64) -> Self {
        Self {
            current,
            version,
            ..Self::default()
        }
    }

    pub(super) fn says(&mut self, sdp: &str) {
        self.see(sdp);
        self.current = Some(sdp.into());
        if let Some(invited) = &mut self.invited {
            invited.is_settled = true;
        }
    }

    /// An answer to an INVITE that does not accept it yet.
    pub(super) fn says_early(&mut self, sdp: &str) {
        if let Some(invited) = &mut self.invited
            && invited.early.is_none()
        {
            invited.early = Some(sdp.into());
            self.see(sdp);
        }
    }

    /// The answer to an INVITE, which repeats what was said early.
    pub(super) fn accepts(&mut self, sdp: &str) {
        match self.invited.take() {
            // It is left out.
            Some(invited) if invited.is_settled => self.invited = Some(invited),
            Some(invited) if !invited.has_offer => {
                self.see(sdp);
                let offered = Some(sdp.into());
                self.invited = Some(Invited { offered, ..invited });
            }
            Some(invited) => {
                if invited.early.is_none() {
                    self.see(sdp);
                }
                let said = invited.early.clone().or_else(|| Some(sdp.into()));
                let before = std::mem::replace(&mut self.current, said);
                self.invited = Some(Invited {
                    is_settled: true,
                    before: Some(before),
                    ..invited
                });
            }
            None => {
                self.see(sdp);
                self.current = Some(sdp.into());
            }
        }
    }

    /// The INVITE was refused.
    pub(super) fn refuses(&mut self) {
        self.invited = None;
    }

    /// What was agreed on, as far as events were read.
    pub(super) fn current(&self) -> Option<Box<str>> {
        self.current.clone()
    }

    /// What refreshes the session: nothing where an INVITE of the peer's has done that, by an offer of ours that is open.
    pub(super) fn refreshes(&self) -> Option<Box<str>> {
        self.open().is_none().then(|| self.current())?
    }

    /// The highest version that was ever said.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Takes a change that is about to be asked for; gives its name, and the version before it.
    pub(super) fn asks(&mut self, offered: Option<(&str, Option<Change>)>) -> (u64, u64) {
        let before = self.version;
        let offered = offered.map(|(sdp, change)| {
            self.see(sdp);
            let sdp = sdp.into();
            Offered { sdp, change }
        });
        if self.asked.len() >= MOST_ASKED {
            // The first may be under way.
            self.asked.remove(1);
        }
        self.times += 1;
        let name = self.times;
        self.asked.push(Asked { name, offered });
        (name, before)
    }

    /// It is under way, so that nothing before it is.
    pub(super) fn has_asked(&mut self, (name, _): (u64, u64)) {
        self.asked.retain(|asked| asked.name >= name);
    }

    /// It was not asked for: its version is free (RFC 3264 §8: "MUST increment by one").
    pub(super) fn has_not_asked(&mut self, (name, before): (u64, u64)) {
        if self.asked.last().is_some_and(|asked| asked.name == name) {
            self.version = before;
        }
        self.asked.retain(|asked| asked.name != name);
    }

    /// Replaces the offer that is under way.
    pub(super) fn offers_as(&mut self, offered: Offered) {
        self.see(&offered.sdp);
        if let Some(asked) = self.asked.first_mut() {
            asked.offered = Some(offered);
        }
    }

    pub(super) fn offered(&self) -> Option<Offered> {
        self.asked.first()?.offered.clone()
    }

    fn answered(&mut self) -> Option<Offered> {
        let is_asked = !self.asked.is_empty();
        is_asked.then(|| self.asked.remove(0))?.offered
    }

    /// Takes what came of an offer.
    pub(super) fn sees(&mut self, event: &Event) {
        match event {
            Event::ReinviteProgress(_) => {
                // What has its answer holds, whatever becomes of the re-INVITE (RFC 6141 §3.3).
                let asked = self.asked.first_mut();
                if let Some(offered) = asked.and_then(|asked| asked.offered.take()) {
                    self.current = Some(offered.sdp);
                }
            }
            Event::ReinviteAccepted(response) => {
                let offered = self.answered();
                let answer = description(&response.headers(), response.body());
                if let (Some(offered), Some(_)) = (offered, answer) {
                    self.current = Some(offered.sdp);
                }
            }
            Event::ReinviteRefused(_) | Event::ReinviteUndone(_) => drop(self.answered()),
            Event::Reinvited(invite) => self.invited = Some(Invited::by(invite)),
            Event::ReinviteCancelled => {
                let invited = self.invited.take();
                if let Some(before) = invited.and_then(|invited| invited.before) {
                    self.current = before;
                }
            }
            Event::ProgressAcknowledged(prack) => self.pracked(prack),
            Event::Offered(request) => {
                if *request.method() == Method::Prack {
                    self.pracked(request);
                }
                let from = request.headers().from();
                self.asker = from.ok().and_then(|from| from.tag().map(Into::into));
            }
            Event::Answered(response) => self.answered_by(response),
            Event::Acknowledged(ack) => self.acknowledged(ack),
            _ => {}
        }
    }

    /// Our INVITE is accepted: what counts is what was said to who has done that.
    fn answered_by(&mut self, response: &Response) {
        let Some(ringing) = self.ringing.take() else {
            return;
        };
        let to = response.headers().to().ok();
        let tag = to.as_ref().and_then(|to| to.tag()).unwrap_or_default();
        let said = ringing.said.into_iter().find(|(known, _)| **known == *tag);
        self.current = said.map(|(_, sdp)| sdp).or(ringing.offered);
    }

    /// The answer to an INVITE's offer is complete, or the offer has its answer.
    fn pracked(&mut self, prack: &Request) {
        let rack = prack.headers().rack().ok().flatten();
        let is_of = |invited: &&mut Invited| rack.is_some_and(|rack| rack.cseq == invited.cseq);
        let Some(invited) = self.invited.as_mut().filter(is_of) else {
            return;
        };
        invited.before = None;
        let is_answered =
            invited.has_offer || description(&prack.headers(), prack.body()).is_some();
        if let (true, false, Some(early)) = (is_answered, invited.is_settled, &invited.early) {
            invited.is_settled = true;
            self.current = Some(early.clone());
        }
    }

    /// Without an answer in its ACK an offer has come to nothing.
    fn acknowledged(&mut self, ack: &Request) {
        let cseq = ack.headers().cseq().map_or(0, |cseq| cseq.number);
        let Some(invited) = self.invited.take_if(|invited| invited.cseq == cseq) else {
            return;
        };
        let is_answered = description(&ack.headers(), ack.body()).is_some();
        if let (true, false, Some(offered)) = (is_answered, invited.is_settled, invited.offered) {
            self.current = Some(offered);
        }
    }

    /// The offer in a 2xx whose ACK may have come, and was not read yet.
    fn open(&self) -> Option<&str> {
        let invited = self.invited.as_ref().filter(|it| !it.is_settled)?;
        invited.offered.as_deref()
    }

    /// What was said last. An offer in a 2xx is as a rule answered.
    fn last(&self) -> Option<&str> {
        self.open().or(self.current.as_deref())
    }

    /// The last description, changed, under a version of its own.
    pub(super) fn changed(&self, change: Change) -> Option<String> {
        let changed = change(self.last()?);
        Some(newer(&changed, self.version).into_owned())
    }

    /// A description of the application's, under a version of its own where it differs from what was said: "If the version in the
    /// origin line does not increment, the SDP MUST be identical to the SDP with that version number" (RFC 3264 §8).
    pub(super) fn next<'a>(&self, sdp: &'a str) -> Cow<'a, str> {
        let is_known = |known: &str| known == sdp || !is_same_origin(known, sdp);
        let invited = self.invited.as_ref().filter(|it| !it.is_settled);
        // What follows an early answer repeats it.
        if let Some(early) = invited.and_then(|it| it.early.as_deref()) {
            return match with_version(early, 0) == with_version(sdp, 0) {
                true => Cow::Owned(early.to_owned()),
                false if is_same_origin(early, sdp) => newer(sdp, self.version),
                false => Cow::Borrowed(sdp),
            };
        }
        match self.last() {
            Some(last) if !is_known(last) => newer(sdp, self.version),
            _ => Cow::Borrowed(sdp),
        }
    }

    /// The offer that has no answer yet, made anew for a session that is by `said` from now on.
    pub(super) fn offered_after(&self, said: &str) -> Option<Offered> {
        let offered = self.asked.first()?.offered.as_ref()?;
        let again = match offered.change {
            Some(change) => Cow::Owned(change(said)),
            None => Cow::Borrowed(&*offered.sdp),
        };
        let highest = self.version.max(version(said).unwrap_or_default());
        Some(Offered {
            sdp: newer(&again, highest).into(),
            change: offered.change,
        })
    }

    fn see(&mut self, sdp: &str) {
        self.version = self.version.max(version(sdp).unwrap_or_default());
    }
}

/// The description under a version above this one.
fn newer(sdp: &str, than: u64) -> Cow<'_, str> {
    match version(sdp) {
        Some(version) if version <= than => Cow::Owned(with_version(sdp, than.saturating_add(1))),
        _ => Cow::Borrowed(sdp),
    }
}

/// Changes of one call that are remembered although nobody has waited for them: one of them is under way, the others were refused.
const MOST_ASKED: usize = 8;
