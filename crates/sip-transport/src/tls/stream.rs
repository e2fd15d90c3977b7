//! A connection within TLS, and the handshake that makes it one.

use super::{Tls, identity};
use crate::{Destination, Stream, Transport};
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A connection within TLS.
#[derive(Debug)]
pub(crate) struct TlsStream {
    inner: tokio_rustls::TlsStream<Box<dyn Stream>>,
}

impl TlsStream {
    /// Shakes hands as a server.
    pub(crate) async fn accept(tls: &Tls, stream: Box<dyn Stream>) -> io::Result<TlsStream> {
        let Some(config) = tls.loaded().server.clone() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let inner = TlsAcceptor::from(config).accept(stream).await?;
        Ok(TlsStream {
            inner: inner.into(),
        })
    }

    /// Shakes hands as a client. The server has to be who the destination names: without a name, whoever has a certificate
    /// for the address.
    pub(crate) async fn connect(
        tls: &Tls,
        stream: Box<dyn Stream>,
        destination: &Destination,
    ) -> io::Result<TlsStream> {
        let loaded = tls.loaded();
        let config = match destination.transport {
            Transport::Wss => loaded.web_client.clone(),
            _ => loaded.client.clone(),
        };
        let name = server_name(destination)?;
        let inner = TlsConnector::from(config).connect(name, stream).await?;
        Ok(TlsStream {
            inner: inner.into(),
        })
    }

    /// Returns the SIP domains of the peer's certificate (RFC 5922 §7.1). Empty for a client that showed none.
    pub(crate) fn peer_domains(&self) -> Box<[Box<str>]> {
        let (_, session) = self.inner.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        certificate.map_or_else(Box::default, identity::domains_of)
    }
}

fn server_name(destination: &Destination) -> io::Result<ServerName<'static>> {
    let Some(name) = &destination.server_name else {
        return Ok(ServerName::IpAddress(destination.address.ip().into()));
    };
    let bare = name.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(bare)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no name for a certificate"))
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            // Closed without TLS's own farewell, as many do. Messages carry their lengths, so that nobody can shorten one
            // unnoticed (RFC 8446 §6.1).
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Stream for TlsStream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.get_ref().0.local_addr()
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.get_ref().0.peer_addr()
    }
}
