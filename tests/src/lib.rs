//! End-to-end tests over the real binaries, bodies of the fuzz targets, and checks of the layering.
//!
//! The end-to-end tests run what `make build` put into `target/dist`; [`Pyro`] gives each of them a home of its own.
//! [`fuzzing`] calls the crates themselves.

pub mod fuzzing;
mod mount_point;
pub mod powercut;
mod pyro;
pub mod torture;
pub mod typed_dicts;

pub use mount_point::MountPoint;
pub use pyro::{Output, Pyro, QEMU, SANDBOX, dist, environments, finish, signal, tools};
