//! Several datagrams by one system call (recvmmsg(2)).
#![allow(unsafe_code)]

use super::local::{CONTROL, local_of};
use super::{Arrived, Registered};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::UdpSocket;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};

/// Receives as many datagrams at once as are there, and hands them out one by one.
///
/// A call that brings fewer than it had room for has emptied the socket, so that no second one has to find that out.
pub(crate) struct Arrivals {
    /// Room for each datagram of a call, of which only what was ever used takes memory.
    space: Box<[u8]>,
    /// Room for what the kernel tells beside each datagram; none where it was asked nothing.
    controls: Box<[[u8; CONTROL]]>,
    arrived: [Arrived; AT_ONCE],
    next: usize,
    end: usize,
}

impl Arrivals {
    /// Makes room, also for the address of ours that each datagram came to where the socket is told it.
    pub(crate) fn new(tells_local: bool) -> Arrivals {
        let controls = if tells_local { AT_ONCE } else { 0 };
        Arrivals {
            space: vec![0; AT_ONCE * LARGEST].into_boxed_slice(),
            controls: vec![[0; CONTROL]; controls].into_boxed_slice(),
            arrived: [NOTHING; AT_ONCE],
            next: 0,
            end: 0,
        }
    }

    /// Receives the next datagram into `buffer`, what does not fit being lost.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Registered,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Arrived>> {
        loop {
            if let Some(taken) = self.take(buffer) {
                return Poll::Ready(Ok(taken));
            }
            let mut readiness = ready!(socket.poll_read_ready(cx))?;
            // `WouldBlock` makes tokio wait for the next event of the socket. It is raised when the socket was emptied, as
            // the kernel reports whatever comes after that.
            let received = readiness.try_io(|socket| match self.receive(socket.get_ref())? {
                AT_ONCE => Ok(()),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            });
            if let Ok(Err(error)) = received {
                return Poll::Ready(Err(error));
            }
        }
    }

    fn take(&mut self, buffer: &mut [u8]) -> Option<Arrived> {
        if self.next >= self.end {
            return None;
        }
        let arrived = *self.arrived.get(self.next)?;
        let start = self.next * LARGEST;
        self.next += 1;
        let length = arrived.length.min(buffer.len());
        let bytes = self.space.get(start..start + length)?;
        buffer.get_mut(..length)?.copy_from_slice(bytes);
        Some(Arrived { length, ..arrived })
    }

    /// Makes one call and returns how many datagrams it brought. There are none left of the call before.
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        (self.next, self.end) = (0, 0);
        let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; AT_ONCE];
        let mut parts: [libc::iovec; AT_ONCE] = std::array::from_fn(|_| libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        });
        for (part, room) in parts.iter_mut().zip(self.space.chunks_exact_mut(LARGEST)) {
            part.iov_base = room.as_mut_ptr().cast();
            part.iov_len = room.len();
        }
        let mut messages: [libc::mmsghdr; AT_ONCE] = std::array::from_fn(|_| {
            // SAFETY: every field is a number or a pointer, for which all bits zero are a value; what is needed is set below.
            unsafe { std::mem::zeroed() }
        });
        for ((message, part), name) in messages.iter_mut().zip(&mut parts).zip(&mut names) {
            message.msg_hdr.msg_name = name.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        for (message, control) in messages.iter_mut().zip(&mut self.controls) {
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL as _;
        }
        // SAFETY: the descriptor is open while `socket` is borrowed. `messages` has `AT_ONCE` headers; each points to a name, to
        // one part of `space` and maybe to one of `controls`, which live, and are borrowed by nobody else, until after the call.
        // Their lengths are given.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                AT_ONCE as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(io::Error::last_os_error());
        };
        for ((arrived, message), name) in self
            .arrived
            .iter_mut()
            .zip(&messages)
            .zip(&names)
            .take(count)
        {
            *arrived = Arrived {
                length: message.msg_len as usize,
                source: source(name, message.msg_hdr.msg_namelen),
                local: None,
            };
        }
        let told = self.arrived.iter_mut().zip(&messages);
        for ((arrived, message), control) in told.zip(&self.controls).take(count) {
            // Not of one type everywhere.
            let length: usize = message.msg_hdr.msg_controllen as _;
            arrived.local = local_of(control.get(..length).unwrap_or(control));
        }
        self.end = count.min(AT_ONCE);
        Ok(self.end)
    }
}

/// Reads the address that the kernel wrote, of which the first `length` bytes are set.
fn source(name: &MaybeUninit<libc::sockaddr_storage>, length: libc::socklen_t) -> SocketAddr {
    let length = length as usize;
    if length < size_of::<libc::sockaddr_in>() {
        return NOBODY;
    }
    // SAFETY: the kernel has written an address of at least this many bytes, which begins with its family, and the storage is
    // aligned for any kind of address.
    let v4 = unsafe { name.as_ptr().cast::<libc::sockaddr_in>().read() };
    if i32::from(v4.sin_family) == libc::AF_INET {
        let ip = v4.sin_addr.s_addr.to_ne_bytes();
        return (ip, u16::from_be(v4.sin_port)).into();
    }
    if i32::from(v4.sin_family) != libc::AF_INET6 || length < size_of::<libc::sockaddr_in6>() {
        return NOBODY;
    }
    // SAFETY: as above, for the family and the length of IPv6.
    let v6 = unsafe { name.as_ptr().cast::<libc::sockaddr_in6>().read() };
    SocketAddrV6::new(
        v6.sin6_addr.s6_addr.into(),
        u16::from_be(v6.sin6_port),
        v6.sin6_flowinfo,
        v6.sin6_scope_id,
    )
    .into()
}

/// Datagrams of one call: what comes at once to a server that has work, and half a megabyte of room, most of it never used.
const AT_ONCE: usize = 8;

/// The largest payload that UDP's length field allows.
const LARGEST: usize = 65_535;

/// Who sent a datagram without an address, which no UDP socket gives.
const NOBODY: SocketAddr = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));

/// What stands where no datagram has been.
const NOTHING: Arrived = Arrived {
    length: 0,
    source: NOBODY,
    local: None,
};
