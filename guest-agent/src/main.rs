//! The agent in a guest: PID 1 of a virtual machine, or of the host sandbox's process namespace.
//!
//! It serves `docs/guest-protocol.md`. One thread does everything but files, which have threads of their own.

mod agent;
mod announce;
mod arguments;
mod boot;
mod children;
mod connection;
mod ending;
mod files;
mod follow;
mod import;
mod inherited;
mod journal;
mod launch;
mod listener;
mod operation;
mod pump;
mod readiness;
mod session;
mod shell;
mod terminal;
mod tree;
mod vsock;
mod warden;

use std::process::ExitCode;

use arguments::Mode;

fn main() -> ExitCode {
    match Mode::of_this_process() {
        Ok(Mode::Init) => boot::run(),
        Ok(Mode::Listen { fd, stages }) => agent::run_on_inherited(fd, &stages),
        Ok(Mode::Warden) => warden::run(),
        Err(usage) => arguments::complain(&usage),
    }
}
