//! The command line of pyro: arguments to one call of the daemon, its answer to text or JSON and an exit code.

mod arguments;
mod commands;
mod detach_keys;
mod event_line;
mod exit;
mod follow;
mod interrupts;
mod live_view;
mod progress_view;
mod pull_view;
mod quoting;
mod raw_mode;
mod sanitize;
mod screen_debts;
mod session;
mod sink;
mod sync_view;
mod table;
mod terminal_filter;
mod window_changes;

pub use arguments::Cli;
pub use commands::log::{repair::LogRepair, verify::LogVerification};
pub use commands::{
    Invocation,
    daemon::DaemonRun,
    demo::{OllamaDemo, Tell},
    mcp::{McpHttp, McpServe},
};
pub use terminal_filter::TerminalFilter;
