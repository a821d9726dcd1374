//! The loopback interface.

#![expect(unsafe_code, reason = "interface flags are set by an ioctl on a C structure")]

use std::io;

use rustix::ioctl::{Setter, ioctl};
use rustix::net::{AddressFamily, SocketType};

/// `struct ifreq` of the kernel, with the flags of its union.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceFlags>() == size_of::<libc::ifreq>());

/// Number of the ioctl that sets the flags of an interface.
const SIOCSIFFLAGS: rustix::ioctl::Opcode = 0x8914;

/// The flag of an interface that is up; the kernel adds those that it keeps itself.
const IFF_UP: i16 = 1;

/// Brings the interface up. Its address comes with it.
pub(crate) fn up() -> io::Result<()> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut name = [0; 16];
    name[..2].copy_from_slice(b"lo");
    let request = InterfaceFlags { name, flags: IFF_UP, rest: [0; 22] };
    // SAFETY: the opcode reads a `struct ifreq`, which the argument has the layout and size of, and writes nothing.
    unsafe { ioctl(&socket, Setter::<SIOCSIFFLAGS, InterfaceFlags>::new(request))? };
    Ok(())
}
