//! The network of a guest that has one, the same on every backend: a program of the host's answers as gateway and name
//! server and makes the guest's connections its own, so no privilege, device or rule of the host is needed. The host is
//! the gateway's address, its loopback included.

use core::fmt;
use core::net::Ipv4Addr;

/// Address of the guest.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// Address of the gateway, which is the host.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Address of the name server, which asks the host's.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// The network that all of them are in.
pub const SUBNET: Subnet = Subnet { address: Ipv4Addr::new(10, 0, 2, 0), prefix_len: 24 };

/// Hardware address of the guest. Each guest is alone in its network.
pub const MAC: Mac = Mac([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]);

/// A network, written `ADDRESS/PREFIX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    address: Ipv4Addr,
    /// Length of the network's part of addresses, in bits; at most 32.
    pub(crate) prefix_len: u8,
}

impl Subnet {
    /// Returns the mask of the network's part of addresses.
    pub(crate) fn netmask(self) -> Ipv4Addr {
        let host_len = 32 - u32::from(self.prefix_len);
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_len).unwrap_or(0))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix_len)
    }
}

/// A hardware address, written in six pairs of hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub(crate) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_people_do() {
        assert_eq!(SUBNET.to_string(), "10.0.2.0/24");
        assert_eq!(SUBNET.netmask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(MAC.to_string(), "52:54:00:12:34:56");
    }
}
