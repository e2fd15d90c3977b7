//! ICMP errors of unconnected UDP sockets, from Linux's error queue (ip(7), `IP_RECVERR`).
#![allow(unsafe_code)]

use super::Report;
use socket2::{MaybeUninitSlice, MsgHdrMut, SockAddr, SockRef};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::UdpSocket;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

/// A socket whose datagrams and errors tokio waits for, and nothing else: to be told each time that there is room to send
/// again, which follows every datagram sent, would wake us twice for every exchange.
pub(crate) type Registered = Arc<AsyncFd<Arc<UdpSocket>>>;

/// Registers a socket with tokio.
pub(crate) fn register(socket: Arc<UdpSocket>) -> io::Result<Registered> {
    let interest = Interest::READABLE.add(Interest::ERROR);
    // SAFETY: the descriptor is that of `socket`, which the result owns, and which closes it no sooner than it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(socket, interest) };
    Ok(Arc::new(registered.map_err(|error| error.into_parts().1)?))
}

/// Waits until the error queue has something, and makes tokio wait for what comes after that.
pub(crate) async fn reported(socket: Registered) {
    if let Ok(mut readiness) = socket.ready(Interest::ERROR).await {
        readiness.clear_ready_matching(Ready::ERROR);
    }
}

/// Asks for a report of each datagram that did not arrive. Without it an unconnected socket is told nothing.
pub(crate) fn report_undelivered(socket: &UdpSocket, v6: bool) -> io::Result<()> {
    match v6 {
        true => switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
        false => switch_on(socket, libc::IPPROTO_IP, libc::IP_RECVERR),
    }
}

/// Sets an option of a socket to 1.
pub(super) fn switch_on(
    socket: &UdpSocket,
    level: libc::c_int,
    option: libc::c_int,
) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open while `socket` is borrowed, and the option's value is a `c_int` that outlives the call,
    // of the length that is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes the next report. `Ok(None)`: one that RFC 3261 §18.4 has us ignore; `WouldBlock`: there are no more.
pub(crate) fn next_report(socket: &UdpSocket) -> io::Result<Option<Report>> {
    let mut remote = SockAddr::from(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    let mut payload = [MaybeUninit::<u8>::uninit(); 1];
    let mut control = [0u8; CONTROL];
    let filled = {
        // SAFETY: the slice covers exactly `control`, which is borrowed for as long, and the kernel writes only initialised
        // bytes into it, so that it is still initialised when it is read as `u8` again.
        let control = unsafe {
            std::slice::from_raw_parts_mut(
                control.as_mut_ptr().cast::<MaybeUninit<u8>>(),
                control.len(),
            )
        };
        let mut buffers = [MaybeUninitSlice::new(&mut payload)];
        let mut header = MsgHdrMut::new()
            .with_addr(&mut remote)
            .with_buffers(&mut buffers)
            .with_control(control);
        SockRef::from(socket).recvmsg(&mut header, libc::MSG_ERRQUEUE)?;
        header.control_len()
    };
    let Some(remote) = remote.as_socket() else {
        return Ok(None);
    };
    let Some(kind) = extended_error(control.get(..filled).unwrap_or(&control)) else {
        return Ok(None);
    };
    Ok(Some(Report { remote, kind }))
}

/// Room for the control messages of one report: an extended error with its offender's address.
const CONTROL: usize = 256;

/// Finds the `sock_extended_err` among control messages and tells what it means; `None` for what is to be ignored.
fn extended_error(control: &[u8]) -> Option<io::ErrorKind> {
    let is_report = |level, kind| {
        (level == libc::IPPROTO_IP && kind == libc::IP_RECVERR)
            || (level == libc::IPPROTO_IPV6 && kind == libc::IPV6_RECVERR)
    };
    let (_, _, body) =
        control_messages(control).find(|(level, kind, _)| is_report(*level, *kind))?;
    let errno = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    let (origin, icmp_type, code) = (*body.get(4)?, *body.get(5)?, *body.get(6)?);
    is_failure(origin, icmp_type, code).then(|| io::Error::from_raw_os_error(errno).kind())
}

/// Divides control messages (cmsg(3)): the level, the kind and the content of each.
pub(super) fn control_messages(mut control: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from_ne_bytes(control.get(..WORD)?.try_into().ok()?);
        let level = i32::from_ne_bytes(control.get(WORD..WORD + 4)?.try_into().ok()?);
        let kind = i32::from_ne_bytes(control.get(WORD + 4..HEADER)?.try_into().ok()?);
        let body = control.get(HEADER..length)?;
        let next = length.checked_next_multiple_of(WORD)?;
        control = control.get(next..).unwrap_or_default();
        Some((level, kind, body))
    })
}

/// What a control message begins with: its length, its level and its kind.
pub(super) const HEADER: usize = WORD + 8;
/// What control messages are aligned to.
pub(super) const WORD: usize = size_of::<usize>();

/// Tells whether a report is a failure to send: RFC 3261 §18.4 names host, network, port and protocol unreachable and
/// parameter problem; source quench and TTL exceeded SHOULD be ignored. "Fragmentation needed" is none either: the kernel has
/// learned the path's MTU, and the retransmission is fragmented.
fn is_failure(origin: u8, icmp_type: u8, code: u8) -> bool {
    const FRAGMENTATION_NEEDED: u8 = 4;
    match origin {
        libc::SO_EE_ORIGIN_ICMP => {
            (icmp_type == 3 && code != FRAGMENTATION_NEEDED) || icmp_type == 12
        }
        libc::SO_EE_ORIGIN_ICMP6 => matches!(icmp_type, 1 | 4),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_rfc_3261_18_4_names_is_a_failure() {
        let icmp = libc::SO_EE_ORIGIN_ICMP;
        assert!(is_failure(icmp, 3, 1), "host unreachable");
        assert!(is_failure(icmp, 3, 3), "port unreachable");
        assert!(is_failure(icmp, 12, 0), "parameter problem");
        assert!(!is_failure(icmp, 3, 4), "fragmentation needed");
        assert!(!is_failure(icmp, 4, 0), "source quench");
        assert!(!is_failure(icmp, 11, 0), "time to live exceeded");
        assert!(
            is_failure(libc::SO_EE_ORIGIN_ICMP6, 1, 4),
            "port unreachable"
        );
        assert!(
            !is_failure(libc::SO_EE_ORIGIN_ICMP6, 3, 0),
            "hop limit exceeded"
        );
    }

    #[test]
    fn truncated_control_messages_yield_nothing() {
        assert_eq!(extended_error(&[]), None);
        assert_eq!(extended_error(&[0xff; 64]), None);
        assert_eq!(extended_error(&[0; 64]), None);
    }
}
