//! The command line of pyro: arguments to one call of the daemon, its answer to text or JSON and an exit code.

mod arguments;
mod commands;
mod event_line;
mod exit;
mod follow;
mod interrupts;
mod json;
mod live_view;
mod pull_view;
mod quoting;
mod sanitize;
mod session;
mod sink;
mod terminal_filter;

pub use arguments::Cli;
pub use commands::{Invocation, daemon::DaemonRun};
