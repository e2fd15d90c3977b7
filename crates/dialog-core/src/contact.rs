//! How a peer reaches us.

use sipora_transaction_core::Context;
use sipora_transport::{Flow, Transport};

/// The URI under which the peer of a flow reaches us.
pub(crate) fn of_flow(
    context: &Context<'_>,
    flow: &Flow,
    user: Option<&str>,
    is_secure: bool,
) -> String {
    let sent_by = context.sent_by(flow);
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    let scheme = if is_secure { "sips" } else { "sip" };
    let parameter = match flow.transport {
        Transport::Udp => "",
        // RFC 7118 §5.2 has `ws` for both kinds.
        Transport::Ws | Transport::Wss => ";transport=ws",
        // SIPS says it already (RFC 5630 §3.1.4).
        _ if is_secure => "",
        Transport::Tls => ";transport=tls",
        _ => ";transport=tcp",
    };
    format!("{scheme}:{user}{sent_by}{parameter}")
}
