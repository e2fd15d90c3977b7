//! PUBLISH (RFC 3903 §6).

use sipora_message::{HeaderName, StatusCode};
use sipora_transaction_core::{Context, IncomingRequest};

use super::{Agent, PACKAGE};
use crate::AddressOfRecord;

impl Agent {
    /// Takes a PUBLISH whose sender may publish for `address`. It is answered at once, so that those of one address are
    /// processed one after the other, each whole or not at all.
    pub(super) fn publish(
        &mut self,
        context: &mut Context<'_>,
        incoming: &IncomingRequest,
        address: &AddressOfRecord,
    ) {
        let (now, source) = (context.now().instant, incoming.flow.remote.ip());
        let published = self
            .publications
            .publish(now, address, source, &incoming.request);
        let published = match published {
            Ok(published) => published,
            Err(refusal) => return self.refuse(context, incoming, &refusal),
        };
        tracing::debug!(
            peer = %incoming.flow.remote,
            call_id = incoming.request.headers().call_id().unwrap_or_default(),
            %address,
            expires = published.expires,
            "published"
        );
        // Step 6: "The response MUST contain an Expires header field [...] The response MUST also contain a SIP-ETag header
        // field that contains a single entity-tag identifying the publication." No Record-Route.
        let answer = context
            .answer(&incoming.request, StatusCode::OK)
            .header(HeaderName::Expires, published.expires)
            .header(HeaderName::SipEtag, &*published.tag);
        self.shared.answers.send(context, incoming, answer);
        if published.is_changed {
            self.changed(context, address);
        }
    }

    /// Lets the watchers of an address hear its present state, at the pace of the package.
    pub(super) fn changed(&mut self, context: &Context<'_>, address: &AddressOfRecord) {
        if let Some(uri) = address.to_uri() {
            self.notifier.changed(context.now().instant, PACKAGE, &uri);
        }
    }
}
