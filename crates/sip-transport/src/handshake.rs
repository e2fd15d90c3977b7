//! What has to happen on a new connection before messages go over it: nothing for TCP, a handshake for TLS.

use crate::shared::Shared;
use crate::{Destination, Stream, Transport};
use std::io;
use tokio::time::timeout;

/// A connection that messages can go over.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) stream: Box<dyn Stream>,
    /// The SIP domains that the peer has proved to be (RFC 5922 §7.1).
    pub(crate) peer_domains: Box<[Box<str>]>,
}

impl Established {
    fn plain(stream: Box<dyn Stream>) -> Established {
        Established {
            stream,
            peer_domains: Box::default(),
        }
    }

    #[cfg(feature = "_tls")]
    fn secure(stream: crate::tls::stream::TlsStream) -> Established {
        Established {
            peer_domains: stream.peer_domains(),
            stream: Box::new(stream),
        }
    }
}

/// Does the server's part, within the time that handshakes have.
pub(crate) async fn accept(
    shared: &Shared,
    stream: Box<dyn Stream>,
    transport: Transport,
) -> io::Result<Established> {
    let handshake = async {
        match (transport, &shared.config.tls) {
            #[cfg(feature = "_tls")]
            (Transport::Tls, Some(tls)) => {
                let stream = crate::tls::stream::TlsStream::accept(tls, stream).await?;
                Ok(Established::secure(stream))
            }
            (Transport::Tcp, _) => Ok(Established::plain(stream)),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    };
    within(shared, handshake).await
}

/// Does the client's part, within the time that handshakes have.
pub(crate) async fn connect(
    shared: &Shared,
    stream: Box<dyn Stream>,
    destination: &Destination,
) -> io::Result<Established> {
    let handshake = async {
        match (destination.transport, &shared.config.tls) {
            #[cfg(feature = "_tls")]
            (Transport::Tls, Some(tls)) => {
                let stream =
                    crate::tls::stream::TlsStream::connect(tls, stream, destination).await?;
                Ok(Established::secure(stream))
            }
            (Transport::Tcp, _) => Ok(Established::plain(stream)),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    };
    within(shared, handshake).await
}

/// Tells whether connections of the transport can be made by this build with these settings.
pub(crate) fn can_connect(shared: &Shared, transport: Transport) -> bool {
    match transport {
        Transport::Tcp => true,
        Transport::Tls => cfg!(feature = "_tls") && shared.config.tls.is_some(),
        _ => false,
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
