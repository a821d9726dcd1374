//! The real agent behind its socket, as the host sandbox starts it; no virtual machine.
//!
//! Here it is not PID 1. `SetClock` is not sent: it would set the clock of the machine that runs the tests.

mod command;
mod files;
mod host;
mod import;
mod output;
mod screen;
mod session;
mod shell;
mod terminate;
mod tree;
