//! Guests that are namespaces of the host's kernel, for those who accepted that border: the environment as root,
//! the guest agent as PID 1, nothing of the host inside.
//!
//! ```text
//! daemon --spawns--> sandbox-init --forks--> PID 1: mounts, gives up privileges, becomes the agent
//!                        |                     |
//!                        +-- records it, lets it go, ends
//! ```
//!
//! What must stay true: PID 1 waits until its process is on record in the workspace's directory, so whoever dies when,
//! a later daemon finds it. Mounts are made in the sandbox's own mount namespace and vanish with it. PID 1 and what it
//! runs have no capability outside their user namespace.

mod boot;
mod confine;
mod init;
mod loopback;
mod mounts;
mod record;

pub use boot::{AdoptError, BootError, Booted, Sandbox, SandboxSpec, adopt, boot, destroy};
pub use init::init_main;
