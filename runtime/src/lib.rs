//! Environments and guests: builds, boots, drives and stops them.

pub mod environment;
pub mod guest;
pub mod host;
pub mod import;
pub mod network;
pub mod process;
pub mod qemu;
pub mod sandbox;
