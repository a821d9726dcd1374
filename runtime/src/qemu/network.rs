//! The [network](crate::network) of a guest under QEMU, in which QEMU itself is gateway and name server.

use crate::network::{GATEWAY, GUEST, MAC, NAME_SERVER, SUBNET};

/// Returns the arguments of the network's two ends.
pub(super) fn arguments() -> [(&'static str, String); 2] {
    [
        ("-netdev", "user,id=network,ipv6=off".to_owned()),
        ("-device", format!("virtio-net-device,netdev=network,mac={MAC}")),
    ]
}

/// Returns what the guest's agent is told.
pub(super) fn kernel_word() -> String {
    format!("pyro.network={GUEST}/{},{GATEWAY},{NAME_SERVER}", SUBNET.prefix_len)
}
