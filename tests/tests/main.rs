//! All end-to-end tests and checks; one binary, so that it is linked once.

mod conformance;
mod crash;
mod daemon;
mod fuzz;
mod guest;
mod host_sandbox;
mod layering;
mod log;
mod mcp;
mod mcp_hostile;
mod mount;
mod powercut;
mod python;
mod races;
mod refusals;
mod repeat;
mod retention;
mod seat;
mod shell;
mod sync;
mod tidy;
mod tools;
mod torture;
mod vm;
mod watchers;
mod workspace;
