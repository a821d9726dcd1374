//! The network interfaces: loopback always, the way out when the host gives one.

#![expect(unsafe_code, reason = "interfaces and routes are set by ioctls on C structures")]

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::ioctl::{Opcode, Setter, ioctl};
use rustix::net::{AddressFamily, SocketType};

use super::cmdline::Network;
use super::devices;

/// The interface of the only network device.
const OUTSIDE: &str = "eth0";

/// Where programs look for the name server.
const RESOLVER: &str = "/etc/resolv.conf";

/// Adds a route.
const SIOCADDRT: Opcode = 0x890b;
/// Sets the flags of an interface.
const SIOCSIFFLAGS: Opcode = 0x8914;
/// Sets the address of an interface.
const SIOCSIFADDR: Opcode = 0x8916;
/// Sets the netmask of an interface.
const SIOCSIFNETMASK: Opcode = 0x891c;

/// The flag of an interface that is up; the kernel adds those that it keeps itself.
const IFF_UP: i16 = 1;

/// `struct ifreq` of the kernel, with the flags of its union.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// `struct ifreq` of the kernel, with the address of its union.
#[repr(C)]
struct InterfaceAddress {
    name: [u8; 16],
    address: libc::sockaddr,
    rest: [u8; 8],
}

const _: () = assert!(size_of::<InterfaceFlags>() == size_of::<libc::ifreq>());
const _: () = assert!(size_of::<InterfaceAddress>() == size_of::<libc::ifreq>());

/// Brings the loopback interface up. Its address comes with it.
pub(crate) fn loopback() -> io::Result<()> {
    up(&socket()?, "lo")
}

/// Gives the guest its address, its way out and its name server.
pub(crate) fn outside(network: &Network) -> io::Result<()> {
    devices::wait(&Path::new("/sys/class/net").join(OUTSIDE))?;
    let socket = socket()?;
    let name = interface(OUTSIDE);
    let address = InterfaceAddress { name, address: ipv4(network.address), rest: [0; 8] };
    // SAFETY: the opcode reads a `struct ifreq`, which the argument has the layout and size of, and writes nothing.
    unsafe { ioctl(&socket, Setter::<SIOCSIFADDR, InterfaceAddress>::new(address))? };
    let netmask = InterfaceAddress { name, address: ipv4(network.netmask()), rest: [0; 8] };
    // SAFETY: as above.
    unsafe { ioctl(&socket, Setter::<SIOCSIFNETMASK, InterfaceAddress>::new(netmask))? };
    up(&socket, OUTSIDE)?;
    route_all(&socket, network.gateway)?;
    name_server(Path::new(RESOLVER), network.name_server)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?)
}

fn up(socket: &OwnedFd, name: &str) -> io::Result<()> {
    let request = InterfaceFlags { name: interface(name), flags: IFF_UP, rest: [0; 22] };
    // SAFETY: the opcode reads a `struct ifreq`, which the argument has the layout and size of, and writes nothing.
    unsafe { ioctl(socket, Setter::<SIOCSIFFLAGS, InterfaceFlags>::new(request))? };
    Ok(())
}

/// Sends everything that has no nearer way to the gateway.
fn route_all(socket: &OwnedFd, gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: the structure consists of integers and of one pointer that may be null.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = ipv4(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = ipv4(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = ipv4(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: the opcode reads a `struct rtentry` and writes nothing; the name of the device is null, which means any.
    unsafe { ioctl(socket, Setter::<SIOCADDRT, libc::rtentry>::new(route))? };
    Ok(())
}

/// Names the name server, unless the environment or the user has named one.
fn name_server(file: &Path, address: Ipv4Addr) -> io::Result<()> {
    let named = fs::read(file).is_ok_and(|text| !text.trim_ascii().is_empty());
    if named { Ok(()) } else { fs::write(file, format!("nameserver {address}\n")) }
}

/// Returns the name of an interface as `struct ifreq` has it, filled up with zeros.
fn interface(name: &str) -> [u8; 16] {
    let mut filled = [0; 16];
    filled[..name.len()].copy_from_slice(name.as_bytes());
    filled
}

/// Returns an address as `struct sockaddr` has it: two bytes for the port, then the address.
fn ipv4(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets().map(u8::cast_signed);
    libc::sockaddr {
        sa_family: AddressFamily::INET.as_raw(),
        sa_data: [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_that_are_there_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("resolv.conf");
        name_server(&file, Ipv4Addr::new(10, 0, 2, 3)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 10.0.2.3\n");
        name_server(&file, Ipv4Addr::new(9, 9, 9, 9)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 10.0.2.3\n");
    }
}
