//! How a peer reaches us.

use std::fmt::Write;

use sipora_transaction_core::Context;
use sipora_transport::{Flow, Transport};

/// The URI under which the peer of a flow reaches us.
pub(crate) fn of_flow(
    context: &Context<'_>,
    flow: &Flow,
    user: Option<&str>,
    is_secure: bool,
) -> String {
    let mut uri = String::with_capacity(ROOM);
    push(&mut uri, context, flow, user, is_secure);
    uri
}

/// The same as the value of Contact, in angle brackets.
pub(crate) fn field_of_flow(
    context: &Context<'_>,
    flow: &Flow,
    user: Option<&str>,
    is_secure: bool,
) -> String {
    let mut field = String::with_capacity(ROOM);
    field.push('<');
    push(&mut field, context, flow, user, is_secure);
    field.push('>');
    field
}

/// `<sips:` and `:65535;transport=tcp>` with a user and a host of twenty characters each.
const ROOM: usize = 80;

fn push(out: &mut String, context: &Context<'_>, flow: &Flow, user: Option<&str>, is_secure: bool) {
    let parameter = match flow.transport {
        Transport::Udp => "",
        // RFC 7118 §5.2 has `ws` for both kinds.
        Transport::Ws | Transport::Wss => ";transport=ws",
        // SIPS says it already (RFC 5630 §3.1.4).
        _ if is_secure => "",
        Transport::Tls => ";transport=tls",
        _ => ";transport=tcp",
    };
    out.push_str(if is_secure { "sips:" } else { "sip:" });
    if let Some(user) = user {
        out.push_str(user);
        out.push('@');
    }
    // Writing to memory cannot fail.
    let _ = write!(out, "{}{parameter}", context.sent_by(flow));
}
