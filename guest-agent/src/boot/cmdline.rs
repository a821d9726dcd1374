//! What the host tells the guest on the kernel command line.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// What the boot needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `pyro.image`: the device with the environment, EROFS, read-only.
    pub(crate) image: PathBuf,
    /// `pyro.disk`: the device with the workspace's own writes, ext4.
    pub(crate) disk: PathBuf,
    /// `pyro.hostname`: the name of the machine.
    pub(crate) hostname: String,
    /// `pyro.network`: the way out; `None` leaves the guest with loopback only.
    pub(crate) network: Option<Network>,
}

/// A network, written `ADDRESS/PREFIX,GATEWAY,NAME_SERVER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// The guest's own address.
    pub(crate) address: Ipv4Addr,
    /// Length of the network's part of addresses, in bits; at most 32.
    prefix_len: u8,
    /// Where everything else is reached.
    pub(crate) gateway: Ipv4Addr,
    /// Who knows names.
    pub(crate) name_server: Ipv4Addr,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let (address, prefix_len) = parts.next()?.split_once('/')?;
        let network = Self {
            address: address.parse().ok()?,
            prefix_len: prefix_len.parse().ok().filter(|len| *len <= 32)?,
            gateway: parts.next()?.parse().ok()?,
            name_server: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(network)
    }

    /// Returns the mask of the network's part of addresses.
    pub(crate) fn netmask(&self) -> Ipv4Addr {
        let host_len = 32 - u32::from(self.prefix_len);
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_len).unwrap_or(0))
    }
}

impl Settings {
    /// Reads them from `/proc/cmdline`.
    pub(crate) fn read() -> io::Result<Self> {
        Self::parse(&fs::read_to_string("/proc/cmdline")?)
    }

    fn parse(line: &str) -> io::Result<Self> {
        let given = |name: &str| {
            let mut values =
                line.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            values.next_back()
        };
        let network = given("pyro.network").map(|text| {
            // A guest that was promised a network must not run without it.
            let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("not a network: {text}"));
            Network::parse(text).ok_or_else(invalid)
        });
        Ok(Self {
            image: given("pyro.image").unwrap_or("/dev/vda").into(),
            disk: given("pyro.disk").unwrap_or("/dev/vdb").into(),
            hostname: given("pyro.hostname").unwrap_or("pyro").to_owned(),
            network: network.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_word_counts() {
        let line = "quiet pyro.image=/dev/vdx pyro.hostname=a pyro.imagery=no pyro.hostname=b\n";
        let expected = Settings {
            image: "/dev/vdx".into(),
            disk: "/dev/vdb".into(),
            hostname: "b".to_owned(),
            network: None,
        };
        assert_eq!(Settings::parse(line).unwrap(), expected);
    }

    #[test]
    fn networks_are_whole_or_refused() {
        let network =
            |text: &str| Settings::parse(&format!("pyro.network={text}")).map(|found| found.network);
        let known = network("10.0.2.15/24,10.0.2.2,10.0.2.3").unwrap().unwrap();
        assert_eq!(known.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(known.netmask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(known.gateway, Ipv4Addr::new(10, 0, 2, 2));
        assert_eq!(known.name_server, Ipv4Addr::new(10, 0, 2, 3));
        let whole = network("10.0.2.15/0,10.0.2.2,10.0.2.3").unwrap().unwrap();
        assert_eq!(whole.netmask(), Ipv4Addr::UNSPECIFIED);
        for wrong in [
            "",
            "10.0.2.15",
            "10.0.2.15/33,10.0.2.2,10.0.2.3",
            "10.0.2.15/24,10.0.2.2",
            "1.2.3.4/8,1.1.1.1,1.1.1.1,",
        ] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
