//! Via to be printed.

use std::fmt;
use std::net::IpAddr;

use super::value::{HeaderValue, check_token};
use crate::method::NotAToken;
use crate::uri::host_port;

/// A Via value to be printed (RFC 3261 §20.42).
///
/// ```
/// use sipora_message::ViaBuf;
///
/// let via = ViaBuf::new("TLS", "2001:db8::9:1", Some(5061))?.with_branch("z9hG4bK87asdks7")?.with_rport(None);
/// assert_eq!(via.to_string(), "SIP/2.0/TLS [2001:db8::9:1]:5061;branch=z9hG4bK87asdks7;rport");
/// # Ok::<(), sipora_message::NotAToken>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViaBuf(HeaderValue);

impl ViaBuf {
    /// A Via with its transport and sent-by; IPv6 addresses with or without brackets.
    pub fn new(transport: &str, host: &str, port: Option<u16>) -> Result<ViaBuf, NotAToken> {
        check_token(transport)?;
        let bare_v6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        let host = if bare_v6 {
            format!("[{host}]")
        } else {
            host.into()
        };
        if !host_port(host.as_bytes()).is_ok_and(|found| found.host_len == host.len()) {
            return Err(NotAToken);
        }
        let mut text = format!("SIP/2.0/{transport} {host}");
        if let Some(port) = port {
            text.push_str(&format!(":{port}"));
        }
        Ok(ViaBuf(HeaderValue::from_text(text)))
    }

    /// Adds the branch, which names the transaction.
    pub fn with_branch(mut self, branch: &str) -> Result<ViaBuf, NotAToken> {
        self.0.push_token("branch", branch)?;
        Ok(self)
    }

    /// Asks for the port of the request's source, or says it (RFC 3581).
    pub fn with_rport(mut self, port: Option<u16>) -> ViaBuf {
        match port {
            Some(port) => self.0.push_number("rport", u32::from(port)),
            None => {
                // A token of ours is never refused.
                let _ = self.0.push_param("rport", None);
            }
        }
        self
    }

    /// Says the address of the request's source. IPv6 stands without brackets (RFC 3261 §25.1).
    pub fn with_received(mut self, address: IpAddr) -> ViaBuf {
        let _ = self.0.push_param("received", Some(&address.to_string()));
        self
    }

    /// Adds any other parameter.
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Result<ViaBuf, NotAToken> {
        self.0.push_param(name, value)?;
        Ok(self)
    }
}

impl fmt::Display for ViaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
