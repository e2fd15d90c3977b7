//! NOTIFY to the server, which watches nobody (RFC 6665 §4.1.3).

use sipora_message::StatusCode;
use sipora_transaction_core::{Context, IncomingRequest};

use crate::metrics::count;
use crate::registrar::Shared;

/// Answers a NOTIFY: one that matches no subscription MUST get 481, and none can match. Phones send some unasked, to keep
/// their way through a NAT open; nothing is remembered of them. The method is not one that is allowed, and Allow lists none.
pub(crate) fn on_request(shared: &Shared, context: &mut Context<'_>, incoming: &IncomingRequest) {
    if shared.has_presence {
        count(&shared.presence_counters.unknown_subscriptions);
    }
    let (status, reason) = (StatusCode::CALL_DOES_NOT_EXIST, UNKNOWN_SUBSCRIPTION);
    let answers = &shared.answers;
    answers.stateless(context, incoming, status, Some(reason), &[]);
}

/// The reason of a 481.
pub(crate) const UNKNOWN_SUBSCRIPTION: &str = "Subscription Does Not Exist";
