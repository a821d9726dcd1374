//! Addresses of `AF_VSOCK`, which rustix lacks.

#![expect(unsafe_code, reason = "a socket address type is a promise about its layout")]

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};

/// Any local address.
const ANY_CID: u32 = u32::MAX;

/// The host of a guest.
const HOST_CID: u32 = 2;

/// `struct sockaddr_vm` of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct VsockAddress {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags: u8,
    zero: [u8; 3],
}

const _: () = assert!(size_of::<VsockAddress>() == 16);

impl VsockAddress {
    /// Returns the address to listen on for everybody.
    pub(crate) const fn any(port: u32) -> Self {
        Self::new(ANY_CID, port)
    }

    /// Returns the address of a port of the host.
    pub(crate) const fn host(port: u32) -> Self {
        Self::new(HOST_CID, port)
    }

    const fn new(cid: u32, port: u32) -> Self {
        Self {
            family: rustix::net::AddressFamily::VSOCK.as_raw(),
            reserved: 0,
            port,
            cid,
            flags: 0,
            zero: [0; 3],
        }
    }
}

// SAFETY: the pointer is to a live `repr(C)` value that has the kernel's layout, and the length is its size.
unsafe impl SocketAddrArg for VsockAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        f(std::ptr::from_ref(self).cast(), 16)
    }
}
