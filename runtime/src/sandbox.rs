//! Guests that are namespaces of the host's kernel, for those who accepted that border: the environment as root,
//! the guest agent as PID 1, nothing of the host inside.
//!
//! ```text
//! daemon          sandbox-init                    PID 1 (all namespaces are new)
//!   |---spawn-------->|
//!   |                 |---clone--------------------->|
//!   |                 |---ids, "mapped"------------->|
//!   |<--"pid N"-------|  ends, or is the network     |  makes its root, gives up privileges
//!   |  puts it on record                             |
//!   |---"go"---------------------------------------->|  becomes the agent
//!   |<--end of the stream----------------------------|
//! ```
//!
//! What must stay true:
//! - PID 1 becomes the agent only after its process is on record in the workspace's directory, and ends when the
//!   daemon or sandbox-init goes away before that. So whoever dies when, a later daemon finds the sandbox or there
//!   is none.
//! - PID 1 has no privilege outside its user namespace from its first instruction, and makes all mounts with the
//!   privileges of the sandbox's root. They are in its own mount namespace and vanish with it.
//! - Once the environment is the root, no path of the host can be named any more: what is needed of the host is
//!   opened before.

mod boot;
mod confine;
mod control;
mod first;
mod init;
mod interfaces;
mod limits;
mod mounts;
mod network;
mod record;
mod removal;
mod resolver;
mod root;
mod running;

pub use crate::qemu::{AdoptError, Stop};
pub use boot::{BootError, Booted, SandboxSpec, boot};
pub use init::init_main;
pub use network::{NetworkObstacle, network_obstacle};
pub use running::{Sandbox, adopt, clear, destroy, remove};
