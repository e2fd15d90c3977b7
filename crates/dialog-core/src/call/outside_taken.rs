//! REFERs of the peers' outside of dialogs: each makes one (RFC 3515 §2.4.2, RFC 6665 §4.5.2).

use std::time::Instant;

use sipora_message::{HeaderName, Request, ResponseBuilder, StatusCode};
use sipora_transaction_core::{IncomingRequest, Tag};

use super::core::{CallKey, Calls, Output};
use super::invited::BUSY_SECONDS;
use super::offer::OfferAnswer;
use super::outside::Outside;
use super::record::Call;
use super::refer::{ReferId, Referral};
use super::referred::Referred;
use super::replacing::{Found, Related};
use super::session::{Session, SessionState};
use crate::Dialog;

impl Calls {
    /// Takes a REFER outside of dialogs, where the application takes any REFER; says whether it did. Where it takes those within
    /// calls alone, this one is forbidden, and not "not allowed": our Allow lists REFER.
    pub(super) fn referred_outside(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        identity: impl FnOnce() -> (Tag, String),
    ) -> bool {
        if !self.config.knows_refer() {
            return false;
        }
        let (tag, contact) = identity();
        let tag = tag.as_str();
        if self.config.max_refers_outside == 0 {
            let builder = self.begin(&incoming.request, StatusCode::FORBIDDEN);
            self.respond(incoming.transaction, builder.to_tag(tag));
        } else {
            self.first_refer(now, incoming, tag, contact, &Found::default());
        }
        true
    }

    /// Takes a REFER that makes a dialog. `tag` is the To tag that its answers have; `contact` is ours; `found` is what other shards know
    /// of the call that it names.
    pub(super) fn first_refer(
        &mut self,
        now: Instant,
        incoming: &IncomingRequest,
        tag: &str,
        contact: String,
        found: &Found,
    ) {
        let request = &incoming.request;
        let headers = request.headers();
        let dialog = match self.dialog_of_refer(request, tag) {
            Ok(dialog) => dialog,
            Err(builder) => return self.respond(incoming.transaction, builder.to_tag(tag)),
        };
        let related = Related {
            replaces: None,
            target: found.target.unwrap_or_else(|| self.targeted_by(headers)),
        };
        let key = self.next_call();
        let id = ReferId(self.next_exchange().0);
        let mut call = Call::new(false, tag, contact);
        call.outside = Some(Box::new(Outside::Theirs));
        call.authorizer = self.config.authorizer.clone();
        let comes_directly =
            headers.vias().count() == 1 && !headers.contains(&HeaderName::RecordRoute);
        let is_way_back = incoming.flow.transport.is_stream() && comes_directly;
        call.flow = is_way_back.then(|| Box::new(incoming.flow));
        let mut session = Session::new(dialog, OfferAnswer::default());
        session.state = SessionState::Lingering;
        let ends = now + self.config.refer_patience();
        let extras = session.extras();
        extras.was_referred = true;
        extras
            .referred
            .push(Referred::asked(id, incoming, false, ends));
        call.add_session(session);
        self.insert(key, call);
        let request = request.clone();
        self.outputs.push_back(Output::Referred(
            key,
            Box::new(Referral { id, request }),
            related,
        ));
        self.settle(key);
    }

    /// The dialog that a REFER makes, or why it makes none.
    fn dialog_of_refer(
        &mut self,
        request: &Request,
        tag: &str,
    ) -> Result<Dialog, Box<ResponseBuilder>> {
        let headers = request.headers();
        if self.refers.theirs >= self.config.max_refers_outside || self.by_tag.contains_key(tag) {
            self.metrics.refused_for_lack_of_room += 1;
            let builder = self.begin(request, StatusCode::SERVICE_UNAVAILABLE);
            return Err(Box::new(
                builder.header(HeaderName::RetryAfter, BUSY_SECONDS),
            ));
        }
        if let Some(unknown) = self.config.not_understood(request) {
            let builder = self.begin(request, StatusCode::BAD_EXTENSION);
            return Err(Box::new(builder.header(HeaderName::Unsupported, unknown)));
        }
        let bad = |what: &str| {
            let builder = self.begin(request, StatusCode::BAD_REQUEST);
            Box::new(builder.reason(&format!("Bad Request ({what})")))
        };
        // RFC 3515 §2.4.2: "zero or more than one Refer-To".
        if !matches!(headers.refer_to(), Ok(Some(_))) {
            return Err(bad("Refer-To"));
        }
        // RFC 3891 §3: "in a request other than INVITE".
        if self.config.takes_replaces && headers.contains(&HeaderName::Replaces) {
            return Err(bad("Replaces"));
        }
        Dialog::of_request(request, tag).map_err(|_| bad("Contact"))
    }

    /// The endpoint ends: a REFER that nobody has decided about is refused.
    pub(super) fn refuse_outside(&mut self, key: CallKey) {
        let call = self.calls.get(&key).filter(|it| it.outside.is_some());
        let session = call.and_then(|call| call.sessions.first());
        if let Some(tag) = session.map(|session| Box::<str>::from(session.remote_tag())) {
            self.drop_refers(None, key, &tag);
            self.settle(key);
        }
    }

    /// Begins an answer to a REFER. Outside of dialogs it has our tag, and a 2xx the route set of its dialog.
    pub(super) fn begin_for_refer(
        &self,
        key: CallKey,
        request: &Request,
        status: StatusCode,
    ) -> ResponseBuilder {
        let builder = self.begin(request, status);
        let call = self.calls.get(&key);
        match call.filter(|call| call.outside.is_some()) {
            Some(call) if status.is_success() => builder.to_tag(&call.local_tag).record_route(),
            Some(call) => builder.to_tag(&call.local_tag),
            None => builder,
        }
    }
}
