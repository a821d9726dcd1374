//! The network of a guest that has one: QEMU itself answers as gateway and name server and makes the guest's connections its
//! own, so no privilege, device or rule of the host is needed. The host is the gateway's address, its loopback included.

/// Address of the guest.
pub const GUEST: &str = "10.0.2.15";

/// Address of the gateway, which is the host.
pub const GATEWAY: &str = "10.0.2.2";

/// Address of the name server, which asks the host's.
pub const NAME_SERVER: &str = "10.0.2.3";

/// The network that all of them are in.
pub const SUBNET: &str = "10.0.2.0/24";

/// Length of the network's part of addresses, in bits.
const PREFIX_LEN: u8 = 24;

/// Hardware address of the guest. Each guest is alone in its network.
pub const MAC: &str = "52:54:00:12:34:56";

/// Returns the arguments of the network's two ends.
pub(super) fn arguments() -> [(&'static str, String); 2] {
    [
        ("-netdev", "user,id=network,ipv6=off".to_owned()),
        ("-device", format!("virtio-net-device,netdev=network,mac={MAC}")),
    ]
}

/// Returns what the guest's agent is told.
pub(super) fn kernel_word() -> String {
    format!("pyro.network={GUEST}/{PREFIX_LEN},{GATEWAY},{NAME_SERVER}")
}
