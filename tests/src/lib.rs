//! End-to-end tests over the real binaries, and checks of the layering.
//!
//! The tests run what `make build` put into `target/dist`; [`Pyro`] gives each of them a home of its own.

pub mod powercut;
mod pyro;
pub mod torture;

pub use pyro::{Output, Pyro, QEMU, SANDBOX, dist, environments, finish, signal};
