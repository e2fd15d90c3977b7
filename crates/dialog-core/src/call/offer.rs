//! Offers and answers, by whether messages carry any (RFC 3264, RFC 6337 §2).

use sipora_message::{HeaderName, Headers};

use super::event::CallError;
use crate::Body;

/// What a dialog owes and is owed.
///
/// ```text
///            offer sent                      answer received
///   Settled ───────────▶ Ours ──────────────────────────────▶ Settled
///      │                                                         ▲
///      │     offer received                  answer sent         │
///      └───────────────▶ Theirs ─────────────────────────────────┘
///
///   Ours, Theirs ── the request that carried the offer fails ──▶ Settled, with the session there was
/// ```
///
/// Who has an offer open may make no other (RFC 3264 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct OfferAnswer {
    open: Open,
    /// An offer has been answered once.
    pub(super) has_session: bool,
    /// The peer's description that holds, by its fingerprint; 0 where it is not known.
    heard: u32,
    /// That in an open offer of the peer's, or in the preview of its answer to ours.
    open_heard: u32,
    /// What is likely to be the answer has come in an unreliable provisional answer (RFC 6337 §3.1.1).
    preview: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Open {
    #[default]
    Settled,
    Ours,
    Theirs,
}

impl OfferAnswer {
    pub(super) fn offer_sent(&mut self) {
        self.open = Open::Ours;
    }

    /// Takes an offer, by its fingerprint.
    pub(super) fn offer_received(&mut self, heard: u32) {
        self.open = Open::Theirs;
        self.open_heard = heard;
    }

    /// Takes a description from the peer as the answer to our offer. One that comes after it was answered is a repetition:
    /// "the UAC MUST treat the first session description it receives as the answer, and MUST ignore" others
    /// (RFC 3261 §13.2.1). Says whether it is another description than the one that was known to hold.
    pub(super) fn answer_received(&mut self, heard: u32) -> bool {
        if !self.is_ours() {
            return false;
        }
        let is_new = self.heard != 0 && self.heard != heard;
        self.settle(heard);
        is_new
    }

    /// Takes a description in an unreliable provisional answer to our offer: it is to be used as the answer, and is none, since
    /// the answer "MUST be in a reliable non-failure message" (RFC 3261 §13.2.1, RFC 6337 §3.1.1).
    pub(super) fn preview_received(&mut self, heard: u32) {
        if self.is_ours() {
            self.preview = true;
            self.open_heard = heard;
        }
    }

    /// What came as a preview is all that there will be: a 2xx without a description follows it.
    pub(super) fn settles_for_preview(&mut self) -> bool {
        let settles = self.preview && self.is_ours();
        if settles {
            self.settle(self.open_heard);
        }
        settles
    }

    pub(super) fn answer_sent(&mut self) {
        if self.is_theirs() {
            self.settle(self.open_heard);
        }
    }

    /// The request that carried the offer has failed: "the session remains unchanged" (RFC 3261 §14.1).
    pub(super) fn withdrawn(&mut self) {
        self.open = Open::Settled;
        self.preview = false;
    }

    /// An offer of ours waits for its answer.
    pub(super) fn is_ours(self) -> bool {
        self.open == Open::Ours
    }

    /// An offer of the peer's waits for our answer.
    pub(super) fn is_theirs(self) -> bool {
        self.open == Open::Theirs
    }

    /// An open offer of the peer's is what it has said last.
    pub(super) fn is_known(self) -> bool {
        self.is_theirs() && self.heard != 0 && self.heard == self.open_heard
    }

    /// What holds is not known any more.
    pub(super) fn forget(&mut self) {
        self.heard = 0;
    }

    fn settle(&mut self, heard: u32) {
        self.open = Open::Settled;
        self.has_session = true;
        self.heard = heard;
        self.preview = false;
    }
}

/// Says whether a body of ours is one, sent with these header fields.
pub(super) fn is_description(body: Option<&Body>, headers: &[(HeaderName, String)]) -> bool {
    let Some(body) = body.filter(|body| !body.bytes.is_empty()) else {
        return false;
    };
    let is_disposition = |field: &&(HeaderName, String)| field.0 == HeaderName::ContentDisposition;
    if let Some((_, disposition)) = headers.iter().find(is_disposition) {
        return is_session(disposition);
    }
    let kind = body.content_type.split(';').next().unwrap_or_default();
    let (kind, subtype) = kind.split_once('/').unwrap_or((kind, ""));
    is_sdp(kind.trim(), subtype.trim())
}

/// Refuses a body that is there and says nothing: who sends it would take the message for one with an offer.
pub(super) fn check_described(body: Option<&Body>) -> Result<(), CallError> {
    match body {
        Some(body) if body.bytes.is_empty() => Err(CallError::BodyNeeded(
            "the description is empty: without a body the peer is asked for an offer",
        )),
        _ => Ok(()),
    }
}

/// Says whether a message carries an offer or answer: a body that is a session description by its disposition (RFC 3261
/// §20.11: `session` is what `application/sdp` has without one), or a multipart body, which may hold one.
pub(super) fn has_description(headers: Headers<'_>, body: &[u8]) -> bool {
    if body.is_empty() {
        return false;
    }
    if let Some(disposition) = headers.text(&HeaderName::ContentDisposition) {
        return is_session(&disposition);
    }
    match headers.content_type() {
        Ok(Some(media)) => is_sdp(media.kind(), media.subtype()),
        _ => false,
    }
}

fn is_session(disposition: &str) -> bool {
    let kind = disposition.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("session") || kind.eq_ignore_ascii_case("early-session")
}

fn is_sdp(kind: &str, subtype: &str) -> bool {
    let is_sdp = kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("sdp");
    is_sdp || kind.eq_ignore_ascii_case("multipart")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sipora_message::{Method, Request, Uri};

    #[test]
    fn an_offer_is_answered_by_the_other_side() {
        let mut state = OfferAnswer::default();
        state.offer_sent();
        state.answer_sent();
        assert!(
            state.is_ours(),
            "one's own offer is not answered by oneself"
        );
        state.answer_received(1);
        assert!(!state.is_ours() && state.has_session);
        state.offer_received(1);
        assert!(state.is_theirs());
        state.answer_sent();
        assert!(!state.is_theirs());
    }

    #[test]
    fn a_preview_is_no_answer_until_nothing_better_comes() {
        let mut state = OfferAnswer::default();
        state.preview_received(1);
        assert!(!state.settles_for_preview(), "there was no offer");
        state.offer_sent();
        assert!(!state.settles_for_preview());
        state.preview_received(1);
        assert!(state.is_ours() && !state.has_session);
        assert!(state.settles_for_preview());
        assert!(!state.is_ours() && state.has_session);
    }

    #[test]
    fn what_holds_is_known_when_it_is_offered_again() {
        let mut state = OfferAnswer::default();
        state.offer_received(1);
        assert!(!state.is_known());
        state.answer_sent();
        state.offer_received(2);
        assert!(!state.is_known());
        state.withdrawn();
        state.offer_received(1);
        assert!(state.is_known(), "what failed has changed nothing");
        state.answer_sent();
        state.offer_sent();
        assert!(!state.answer_received(1));
        state.offer_sent();
        assert!(state.answer_received(2));
        state.offer_received(2);
        assert!(state.is_known());
        state.forget();
        assert!(!state.is_known());
    }

    #[test]
    fn a_failed_offer_leaves_the_session_as_it_was() {
        let mut state = OfferAnswer::default();
        state.offer_sent();
        state.withdrawn();
        assert!(!state.is_ours() && !state.has_session);
    }

    #[test]
    fn descriptions_are_told_by_disposition_and_type() {
        let carries = |disposition: Option<&str>, kind: &str, body: &'static str| {
            let mut request = Request::builder(Method::Invite, &Uri::parse("sip:h").unwrap())
                .from("<sip:a@h>;tag=1")
                .to("<sip:h>")
                .call_id("c")
                .cseq(1);
            if let Some(disposition) = disposition {
                request = request.header(HeaderName::ContentDisposition, disposition);
            }
            if !body.is_empty() {
                request = request.body(kind, body);
            }
            let request = request.build().unwrap();
            has_description(request.headers(), request.body())
        };
        assert!(carries(None, "application/sdp", "v=0"));
        assert!(carries(
            Some("session;handling=optional"),
            "application/x",
            "v=0"
        ));
        assert!(carries(None, "multipart/mixed;boundary=a", "--a--"));
        assert!(!carries(Some("render"), "application/sdp", "v=0"));
        assert!(!carries(None, "text/plain", "hello"));
        assert!(!carries(None, "application/sdp", ""));
    }
}
