//! Guests that are virtual machines of QEMU, machine type `microvm`.
//!
//! A guest is up to three processes that outlive the daemon, QEMU, the bridge for its vsock and what connects to that, and
//! files in the directory of its workspace. The directory is also how a later daemon finds them: all work in it.
//!
//! ```text
//!  boot ---> Machine ---> stop ---> destroy
//!              ^                       ^
//!    adopt ----+      (any time) ------+
//! ```

mod accelerator;
mod boot;
mod command_line;
mod console;
mod disk;
mod error;
mod machine;
mod network;
mod probe;
mod vsock;

pub use accelerator::VmAccelerator;
pub use boot::{BootSpec, Booted, Images, boot};
pub use error::{BootError, LastWords};
pub use machine::{AdoptError, Machine, Stop, adopt, destroy};
pub use probe::{fingerprint, probe_kvm};
