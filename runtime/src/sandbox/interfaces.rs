//! The interfaces of a new network namespace: loopback always, the way out when the sandbox has one.
#![expect(unsafe_code, reason = "interfaces and routes are set by ioctl")]

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::network::{GATEWAY, GUEST, MAC, SUBNET};

/// The device that slirp4netns makes.
pub(super) const OUTSIDE: &str = "eth0";

/// Largest packet on [`OUTSIDE`], in bytes. No wire bounds it, and larger packets make fewer switches between the
/// sandbox and slirp4netns, which takes at most 65521.
pub(super) const MTU: u16 = 65_520;

/// `ARPHRD_ETHER` of the kernel: the kind of a hardware address.
const ETHERNET: libc::sa_family_t = 1;

/// Brings `lo` up, which also gives it 127.0.0.1 and ::1.
pub(super) fn bring_loopback_up() -> io::Result<()> {
    Interface::named("lo")?.bring_up()
}

/// Gives the sandbox its address and its way out, over a device that is there.
pub(super) fn connect_outside() -> io::Result<()> {
    let outside = Interface::named(OUTSIDE)?;
    // The hardware address can only be set before the device is up.
    outside.set_hardware_address()?;
    outside.set_mtu()?;
    outside.set_address(libc::SIOCSIFADDR, GUEST)?;
    outside.set_address(libc::SIOCSIFNETMASK, SUBNET.netmask())?;
    outside.bring_up()?;
    outside.route_all()
}

/// An interface of this network namespace.
struct Interface {
    name: [libc::c_char; libc::IFNAMSIZ],
    socket: OwnedFd,
}

impl Interface {
    fn named(name: &str) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let mut filled = [0; libc::IFNAMSIZ];
        for (to, from) in filled.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        Ok(Self { name: filled, socket })
    }

    /// Returns a request about this interface that asks for nothing yet.
    fn request(&self) -> libc::ifreq {
        // SAFETY: all fields of an ifreq are plain data, for which zeros are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_name = self.name;
        request
    }

    fn bring_up(&self) -> io::Result<()> {
        let mut request = self.request();
        let flags = libc::IFF_UP | libc::IFF_RUNNING;
        request.ifr_ifru.ifru_flags = i16::try_from(flags).expect("the flags are within the low bits");
        self.set(libc::SIOCSIFFLAGS, &request)
    }

    fn set_hardware_address(&self) -> io::Result<()> {
        let mut request = self.request();
        let [a, b, c, d, e, f] = MAC.0.map(u8::cast_signed);
        let sa_data = [a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0, 0];
        request.ifr_ifru.ifru_hwaddr = libc::sockaddr { sa_family: ETHERNET, sa_data };
        self.set(libc::SIOCSIFHWADDR, &request)
    }

    fn set_mtu(&self) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_mtu = libc::c_int::from(MTU);
        self.set(libc::SIOCSIFMTU, &request)
    }

    /// Sets the address or the netmask, as the number of the call says.
    fn set_address(&self, call: libc::Ioctl, address: Ipv4Addr) -> io::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_addr = ipv4(address);
        self.set(call, &request)
    }

    fn set(&self, call: libc::Ioctl, request: &libc::ifreq) -> io::Result<()> {
        // SAFETY: the descriptor is open and the request is an initialised ifreq, which all calls that set something
        // of an interface read.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), call, std::ptr::from_ref(request)) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends everything that has no nearer way to the gateway.
    fn route_all(&self) -> io::Result<()> {
        // SAFETY: all fields of an rtentry are plain data or a pointer that may be null.
        let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
        route.rt_dst = ipv4(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = ipv4(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = ipv4(GATEWAY);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        // SAFETY: the descriptor is open and the route is an initialised rtentry, as SIOCADDRT takes it; its null
        // device means the one that the gateway is reached by.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Returns an address as `struct sockaddr` has it: two bytes for the port, then the address.
fn ipv4(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets().map(u8::cast_signed);
    libc::sockaddr {
        sa_family: AddressFamily::INET.as_raw(),
        sa_data: [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0],
    }
}
