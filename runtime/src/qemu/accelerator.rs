//! What executes the instructions of a virtual machine.

use std::time::Duration;

use pyro_core::Accelerator;

/// What executes the instructions of a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmAccelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl VmAccelerator {
    /// Returns how long a boot may take. Under TCG it takes 2 s on an idle host, and ten times that has been seen on a
    /// busy one.
    #[must_use]
    pub const fn boot_deadline(self) -> Duration {
        match self {
            Self::Kvm => Duration::from_secs(20),
            Self::Tcg => Duration::from_secs(60),
        }
    }
}

impl From<VmAccelerator> for Accelerator {
    fn from(accelerator: VmAccelerator) -> Self {
        match accelerator {
            VmAccelerator::Kvm => Self::Kvm,
            VmAccelerator::Tcg => Self::Tcg,
        }
    }
}
