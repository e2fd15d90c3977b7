//! Which address of ours a datagram came to, and which another is to leave from (`IP_PKTINFO`, ip(7); `IPV6_PKTINFO`, RFC 3542
//! §6): for sockets that are bound to a wildcard.

use super::linux::{HEADER, WORD, control_messages, switch_on};
use socket2::{MsgHdr, SockAddr, SockRef};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Asks for the address of ours that each datagram came to.
pub(crate) fn tell_local(socket: &UdpSocket, v6: bool) -> io::Result<()> {
    match v6 {
        true => switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => switch_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO),
    }
}

/// Finds the address to answer from among the control messages of a datagram.
pub(super) fn local_of(control: &[u8]) -> Option<IpAddr> {
    let address = |(level, kind, body): (i32, i32, &[u8])| match (level, kind) {
        // `ipi_spec_dst`: for a broadcast it is ours, which `ipi_addr` is not.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let octets: [u8; 4] = body.get(4..8)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let octets: [u8; 16] = body.get(..16)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        }
        _ => None,
    };
    let local = control_messages(control).find_map(address)?;
    (!local.is_unspecified() && !local.is_multicast()).then_some(local)
}

/// Sends a datagram from an address of ours. The interface is the system's choice.
pub(crate) fn send_from(
    socket: &UdpSocket,
    local: IpAddr,
    bytes: &[u8],
    remote: SocketAddr,
) -> io::Result<usize> {
    let (room, length) = control(local);
    let buffers = [IoSlice::new(bytes)];
    let remote = SockAddr::from(remote);
    let header = MsgHdr::new()
        .with_addr(&remote)
        .with_buffers(&buffers)
        .with_control(room.get(..length).unwrap_or(&room));
    SockRef::from(socket).sendmsg(&header, 0)
}

/// The control message that names an address, and its length.
fn control(local: IpAddr) -> ([u8; CONTROL], usize) {
    let mut info = [0; LARGEST_INFO];
    let (level, kind, length) = match local {
        IpAddr::V4(ip) => {
            put(&mut info, 4, &ip.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, V4_INFO)
        }
        IpAddr::V6(ip) => {
            put(&mut info, 0, &ip.octets());
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, V6_INFO)
        }
    };
    let mut room = [0; CONTROL];
    put(&mut room, 0, &(HEADER + length).to_ne_bytes());
    put(&mut room, WORD, &level.to_ne_bytes());
    put(&mut room, WORD + 4, &kind.to_ne_bytes());
    put(&mut room, HEADER, &info);
    (room, HEADER + length.next_multiple_of(WORD))
}

fn put(room: &mut [u8], start: usize, bytes: &[u8]) {
    for (place, byte) in room.iter_mut().skip(start).zip(bytes) {
        *place = *byte;
    }
}

/// `in_pktinfo`: an interface, the local address, and that of the header.
const V4_INFO: usize = 4 + size_of::<Ipv4Addr>() * 2;
/// `in6_pktinfo`: an address and an interface.
const V6_INFO: usize = size_of::<Ipv6Addr>() + 4;
const LARGEST_INFO: usize = V6_INFO;

/// Room for one of either kind, of which the kernel writes no more for a datagram.
pub(super) const CONTROL: usize = HEADER + LARGEST_INFO.next_multiple_of(WORD);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_out_as_it_went_in() {
        for local in ["127.0.0.2", "::1", "2001:db8::7"] {
            let local: IpAddr = local.parse().unwrap();
            let (room, length) = control(local);
            assert_eq!(local_of(&room[..length]), Some(local));
        }
    }

    #[test]
    fn what_is_no_address_of_ours_is_not_answered_from() {
        for local in ["0.0.0.0", "224.0.0.1", "::", "ff02::1"] {
            let (room, length) = control(local.parse().unwrap());
            assert_eq!(local_of(&room[..length]), None, "{local}");
        }
    }

    #[test]
    fn truncated_control_messages_name_nothing() {
        let (room, length) = control(Ipv6Addr::LOCALHOST.into());
        for end in 0..HEADER + V6_INFO {
            assert_eq!(local_of(&room[..end.min(length)]), None, "{end}");
        }
        assert_eq!(local_of(&[0; CONTROL]), None);
        assert_eq!(local_of(&[0xff; CONTROL]), None);
    }
}
