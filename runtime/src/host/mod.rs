//! What this machine offers: where its tools are, how fast its clock runs, what it lets us do.
//!
//! Nothing here changes the machine or decides anything; the answers are plain data that other modules and
//! `pyro doctor` judge.

mod probe;
mod tool;
mod tsc;

pub use probe::{Access, Missing, Namespaces, Probe, ToolReport, probe};
pub use tool::{MissingTool, Tool, Tools, find};
pub use tsc::tsc_khz;
