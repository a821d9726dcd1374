//! The program against a peer that speaks the daemon's protocol: what is printed where, and the exit code.

mod attach;
mod log;
mod peer;
mod results;
mod run;
mod shell;
mod sync;
mod terminal;
mod workspace;
