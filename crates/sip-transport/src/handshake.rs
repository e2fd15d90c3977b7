//! What has to happen on a new connection before messages go over it: nothing for TCP, a handshake for TLS, one for
//! WebSocket, both for secure WebSocket.

use crate::connection::Wire;
#[cfg(feature = "ws")]
use crate::connection::web_socket::WebSocket;
use crate::shared::Shared;
#[cfg(feature = "_tls")]
use crate::tls::stream::TlsStream;
use crate::{Destination, Stream, Transport};
use std::io;
use tokio::time::timeout;

/// A connection that messages can go over.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) wire: Wire,
    /// The SIP domains that the peer has proved to be (RFC 5922 §7.1).
    pub(crate) peer_domains: Box<[Box<str>]>,
}

impl Established {
    fn bytes(secured: Secured) -> Established {
        Established {
            wire: Wire::Bytes(secured.stream),
            peer_domains: secured.peer_domains,
        }
    }

    #[cfg(feature = "ws")]
    fn web_socket(socket: WebSocket, peer_domains: Box<[Box<str>]>) -> Established {
        Established {
            wire: Wire::WebSocket(Box::new(socket)),
            peer_domains,
        }
    }
}

/// Bytes in order, within TLS where the transport is secure.
struct Secured {
    stream: Box<dyn Stream>,
    peer_domains: Box<[Box<str>]>,
}

/// Does the server's part, within the time that handshakes have.
pub(crate) async fn accept(
    shared: &Shared,
    stream: Box<dyn Stream>,
    transport: Transport,
) -> io::Result<Established> {
    within(shared, async {
        let secured = match (transport.is_secure(), &shared.config.tls) {
            #[cfg(feature = "_tls")]
            (true, Some(tls)) => secured(TlsStream::accept(tls, stream).await?),
            (true, _) => return Err(io::ErrorKind::Unsupported.into()),
            (false, _) => plain(stream),
        };
        match transport {
            #[cfg(feature = "ws")]
            Transport::Ws | Transport::Wss => {
                let socket = WebSocket::accept(&shared.config, secured.stream).await?;
                Ok(Established::web_socket(socket, secured.peer_domains))
            }
            _ => Ok(Established::bytes(secured)),
        }
    })
    .await
}

/// Does the client's part, within the time that handshakes have.
pub(crate) async fn connect(
    shared: &Shared,
    stream: Box<dyn Stream>,
    destination: &Destination,
) -> io::Result<Established> {
    let transport = destination.transport;
    within(shared, async {
        let secured = match (transport.is_secure(), &shared.config.tls) {
            #[cfg(feature = "_tls")]
            (true, Some(tls)) => secured(TlsStream::connect(tls, stream, destination).await?),
            (true, _) => return Err(io::ErrorKind::Unsupported.into()),
            (false, _) => plain(stream),
        };
        match transport {
            #[cfg(feature = "ws")]
            Transport::Ws | Transport::Wss => {
                let socket =
                    WebSocket::connect(&shared.config, secured.stream, destination).await?;
                Ok(Established::web_socket(socket, secured.peer_domains))
            }
            _ => Ok(Established::bytes(secured)),
        }
    })
    .await
}

fn plain(stream: Box<dyn Stream>) -> Secured {
    Secured {
        stream,
        peer_domains: Box::default(),
    }
}

#[cfg(feature = "_tls")]
fn secured(stream: TlsStream) -> Secured {
    Secured {
        peer_domains: stream.peer_domains(),
        stream: Box::new(stream),
    }
}

/// Tells whether a handshake that failed was none, as with health checks.
#[cfg_attr(not(feature = "ws"), allow(unused_variables))]
pub(crate) fn is_visit(error: &io::Error) -> bool {
    #[cfg(feature = "ws")]
    return crate::connection::web_socket::is_visit(error);
    #[cfg(not(feature = "ws"))]
    false
}

/// Tells whether connections of the transport can be made by this build with these settings.
pub(crate) fn can_connect(shared: &Shared, transport: Transport) -> bool {
    let has_tls = cfg!(feature = "_tls") && shared.config.tls.is_some();
    match transport {
        Transport::Udp => false,
        Transport::Tcp => true,
        Transport::Tls => has_tls,
        Transport::Ws => cfg!(feature = "ws"),
        Transport::Wss => cfg!(feature = "ws") && has_tls,
    }
}

/// Tells why connections of the transport cannot be accepted.
pub(crate) fn can_accept(shared: &Shared, transport: Transport) -> io::Result<()> {
    let unsupported = |message: &str| Err(io::Error::new(io::ErrorKind::Unsupported, message));
    if transport.is_secure() {
        match &shared.config.tls {
            Some(tls) if tls.has_certificate() => {}
            Some(_) => return unsupported("a TLS listener needs a certificate"),
            None => return unsupported("no TLS settings were given"),
        }
    }
    match can_connect(shared, transport) {
        true => Ok(()),
        false => unsupported("this build does not speak the transport"),
    }
}

async fn within(
    shared: &Shared,
    handshake: impl Future<Output = io::Result<Established>>,
) -> io::Result<Established> {
    match timeout(shared.config.handshake_timeout, handshake).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
