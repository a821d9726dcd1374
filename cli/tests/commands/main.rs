//! The program against a peer that speaks the daemon's protocol: what is printed where, and the exit code.

mod peer;
mod results;
mod run;
mod workspace;
