//! What one SUBSCRIBE made: a subscription, or several where it was forked.

use std::sync::Arc;
use std::time::Instant;

use sipora_message::{EventRef, Method, Request};
use sipora_transaction_core::{CallId, Tag};

use super::Subscribe;
use super::usage::Usage;
use crate::subscription::{EventPackage, Forking};

/// What one SUBSCRIBE made.
pub(super) struct Set {
    pub(super) call_id: CallId,
    pub(super) tag: Tag,
    pub(super) subscribe: Subscribe,
    pub(super) package: Arc<dyn EventPackage>,
    /// The number last sent outside a dialog.
    pub(super) cseq: u32,
    /// Until when other notifiers may be heard of; none while the SUBSCRIBE is under way.
    pub(super) open_until: Option<Instant>,
    pub(super) asked: u32,
    pub(super) usages: Vec<Option<Usage>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Known(u8),
    New,
}

impl Set {
    /// Whether an event is the one of this subscription (RFC 6665 §8.2.1).
    pub(super) fn is_about(&self, event: &EventRef<'_>) -> bool {
        let mut parts = self.subscribe.event.split(';').map(str::trim);
        let package = parts.next().unwrap_or_default();
        let id = parts.find_map(|part| part.strip_prefix("id="));
        event.package() == package && event.id().as_deref() == id
    }

    /// Finds whose a NOTIFY with this From tag is: a dialog that is known, the first, or a further one.
    pub(super) fn place_of(&self, now: Instant, remote_tag: &str, max_forks: u8) -> Option<Place> {
        let known = |usage: &Option<Usage>| {
            let dialog = usage.as_ref().and_then(|usage| usage.dialog.as_ref());
            dialog.is_some_and(|dialog| &*dialog.id().remote_tag == remote_tag)
        };
        if let Some(at) = self.usages.iter().position(known) {
            return u8::try_from(at).ok().map(Place::Known);
        }
        if let Some(Some(first)) = self.usages.first()
            && first.dialog.is_none()
        {
            return Some(Place::Known(0));
        }
        // RFC 6665 §4.1.2.4: after timer N, no further dialogs.
        let is_open = self.open_until.is_none_or(|until| now < until);
        let is_room = self.usages.len() < usize::from(max_forks);
        let may_fork = self.package.forking() == Forking::EveryDialog;
        (may_fork && is_open && is_room).then_some(Place::New)
    }

    /// Makes a SUBSCRIBE outside any dialog.
    pub(super) fn initial(&mut self) -> Result<Request, String> {
        self.cseq += 1;
        let Subscribe { target, from, .. } = &self.subscribe;
        let builder = Request::builder(Method::Subscribe, target)
            .from(format!("<{from}>;tag={}", self.tag))
            .to(format!("<{target}>"))
            .call_id(&self.call_id)
            .cseq(self.cseq);
        let package = &*self.package;
        let builder = self.subscribe.complete(builder, self.asked, true, package);
        builder.build().map_err(|error| error.to_string())
    }
}
