//! What a server does to the top Via of a request, and reads from it for the response.

use crate::{Destination, Flow, Transport};
use sipora_message::{Request, Response};
use std::net::SocketAddr;

/// Stamps the top Via with where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
///
/// Gives the request back untouched where nothing is to be stamped, or where its top Via cannot be read.
pub fn stamp(request: Request, _source: SocketAddr) -> Request {
    request
}

/// Tells where a response goes by its top Via (RFC 3261 §18.2.2, RFC 3581 §4): for UDP always, for a stream when its
/// connection is gone.
///
/// `None` when the Via cannot be read or names a host that [`stamp`] has not replaced by an address.
pub fn response_destination(_response: &Response, _transport: Transport) -> Option<SocketAddr> {
    unimplemented!()
}

/// Holds the way back of a request's responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseRoute {
    /// The flow to try first: for a stream the connection that the request came over; for UDP the socket that it came to,
    /// and the address that its Via demands.
    pub flow: Flow,
    /// Where to connect to when the connection is gone. None for UDP.
    pub fallback: Option<Destination>,
}

/// Tells which way the responses of a request go that came over `flow` and has been stamped (RFC 3261 §18.2.2).
///
/// A Via that cannot be read sends them back to where the request came from.
pub fn response_route(_request: &Request, _flow: &Flow) -> ResponseRoute {
    unimplemented!()
}
