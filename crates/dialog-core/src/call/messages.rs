//! Requests of the peers' that change nothing: INFO (RFC 6086), MESSAGE (RFC 3428), OPTIONS (RFC 3261 §11.2).

use sipora_message::{HeaderName, Request, ResponseBuilder, StatusCode};
use sipora_transaction_core::IncomingRequest;

use super::core::{CallKey, Calls, Output};
use super::event::CallEvent;
use super::packages::{knows_packages, package_of, recv_info};

impl Calls {
    /// Takes an INFO. "Otherwise, if the INFO request is syntactically correct and well structured, the UA MUST send a 200"
    /// (RFC 6086 §4.2.2): what it says is refused, if at all, by another INFO.
    pub(super) fn informed(&mut self, incoming: &IncomingRequest, key: CallKey) {
        let request = &incoming.request;
        if let Some(package) = package_of(request.headers())
            && !self.config.info_packages.contains(&package)
        {
            let builder = self.begin(request, StatusCode::BAD_INFO_PACKAGE);
            let builder = builder.header(recv_info(), &self.recv_info);
            return self.respond(incoming.transaction, builder);
        }
        self.pass(incoming, key, CallEvent::Info(request.clone()));
    }

    /// Takes a MESSAGE.
    pub(super) fn written_to(&mut self, incoming: &IncomingRequest, key: CallKey) {
        let event = CallEvent::Message(incoming.request.clone());
        self.pass(incoming, key, event);
    }

    /// Takes an OPTIONS outside of calls: "the response code chosen MUST be the same that would have been chosen had the request been
    /// an INVITE" (RFC 3261 §11.2).
    pub(super) fn asked_for_options_outside(&mut self, incoming: &IncomingRequest, tag: &str) {
        match self.refusal_at_once(&incoming.request) {
            Some(builder) => self.respond(incoming.transaction, builder.to_tag(tag)),
            None => {
                let builder = self.capabilities(&incoming.request);
                self.respond(incoming.transaction, builder.to_tag(tag));
            }
        }
    }

    /// Takes an OPTIONS: "generates a 200 (OK) response that is identical to one constructed outside a dialog and does not have
    /// any impact on the dialog" (RFC 3261 §11.2).
    pub(super) fn asked_for_options(&mut self, incoming: &IncomingRequest) {
        let builder = self.capabilities(&incoming.request);
        self.respond(incoming.transaction, builder);
    }

    fn capabilities(&self, request: &Request) -> ResponseBuilder {
        let mut builder = self
            .begin(request, StatusCode::OK)
            .header(HeaderName::Allow, &self.allow)
            .header(HeaderName::Supported, self.config.supported().join(", "))
            .header(HeaderName::Accept, self.config.accepted());
        if !self.config.info_packages.is_empty() || knows_packages(request.headers()) {
            builder = builder.header(recv_info(), &self.recv_info);
        }
        builder
    }

    /// Hands a request to the application. It gets 200 where there is room for it in the queue of the call, and else 500: with a
    /// Retry-After, "the server thinks the condition is temporary" (RFC 5057 §5.1), and only the request has failed.
    fn pass(&mut self, incoming: &IncomingRequest, call: CallKey, event: CallEvent) {
        let request = &incoming.request;
        let taken = self.begin(request, StatusCode::OK).print();
        let full = self.begin(request, StatusCode::SERVER_INTERNAL_ERROR);
        let full = full.header(HeaderName::RetryAfter, BUSY_SECONDS).print();
        if let (Ok(taken), Ok(full)) = (taken, full) {
            self.outputs.push_back(Output::Pass {
                call,
                event,
                transaction: incoming.transaction,
                taken,
                full,
            });
        }
    }
}

/// Seconds of the Retry-After where the application has not read what came before.
const BUSY_SECONDS: u32 = 5;
