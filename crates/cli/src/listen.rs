//! Where the server listens.

use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::Deserialize;

/// Is a place to listen at, written as `udp:HOST:PORT`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(crate) enum Listen {
    Udp(String),
    Tcp(String),
    Tls(String),
    Ws(String),
    Wss(String),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        let Some((transport, address)) = text.split_once(':') else {
            return Err(LISTEN_FORM.to_owned());
        };
        let listen = match transport.to_ascii_lowercase().as_str() {
            "udp" => Listen::Udp,
            "tcp" => Listen::Tcp,
            "tls" => Listen::Tls,
            "ws" => Listen::Ws,
            "wss" => Listen::Wss,
            _ => return Err(LISTEN_FORM.to_owned()),
        };
        host_and_port(address).map(listen)
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Listen, String> {
        text.parse()
            .map_err(|problem| format!("'{text}': {problem}"))
    }
}

/// Checks that `text` is `HOST:PORT`, with brackets around an IPv6 address, and gives it back.
fn host_and_port(text: &str) -> Result<String, String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text.parse::<u16>() {
            Ok(_) => format!("the host is missing; {LISTEN_FORM}"),
            Err(_) => format!("the port is missing; {LISTEN_FORM}"),
        });
    };
    if port.parse::<u16>().is_err() || port.starts_with('+') {
        return Err(format!("'{port}' is no port; {LISTEN_FORM}"));
    }
    if let Some(inner) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        if inner.parse::<Ipv6Addr>().is_err() {
            return Err(format!("'{inner}' is no IPv6 address"));
        }
    } else if host.contains([':', '[', ']']) {
        return Err("an IPv6 address needs brackets, as in udp:[::1]:5060".to_owned());
    } else if host.is_empty() {
        return Err(format!("the host is missing; {LISTEN_FORM}"));
    }
    Ok(text.to_owned())
}

const LISTEN_FORM: &str =
    "expected udp:, tcp:, tls:, ws: or wss: before HOST:PORT, as in udp:0.0.0.0:5060";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read() {
        for (text, expected) in [
            (
                "udp:127.0.0.1:5060",
                Listen::Udp("127.0.0.1:5060".to_owned()),
            ),
            ("wss:0.0.0.0:443", Listen::Wss("0.0.0.0:443".to_owned())),
            ("tcp:0.0.0.0:0", Listen::Tcp("0.0.0.0:0".to_owned())),
            ("udp:[::1]:0", Listen::Udp("[::1]:0".to_owned())),
            (
                "tcp:localhost:5060",
                Listen::Tcp("localhost:5060".to_owned()),
            ),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn listeners_that_are_none_are_refused() {
        for text in [
            "",
            "udp",
            "udp:",
            "udp:5060",
            "127.0.0.1:5060",
            "sctp:127.0.0.1:5060",
            "udp:127.0.0.1",
            "udp:127.0.0.1:65536",
            "udp:127.0.0.1:+1",
            "udp::5060",
            "udp:::1:5060",
            "udp:[::1:5060",
            "udp:[127.0.0.1]:5060",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
