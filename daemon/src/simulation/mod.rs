//! A deterministic simulation of core, engine and store (`docs/development.md`, "Simulation").
//!
//! ```text
//! clients --requests--> inbox --> engine's writer --> log on a disk in memory
//!    ^                    ^             |
//!    |                    |          actions
//!  replies              facts           v
//!                         +--------- drivers <--messages, journal--> guests
//! ```
//!
//! Writer, rules and log are the real ones. Clients, drivers, guests, clock and disk are simulated, in one thread, and
//! everything that happens follows from one seed. The daemon is killed and the power fails at any moment; a model that
//! knows only replies, log and guests says what must be true afterwards.

mod client;
mod compaction;
mod daemon;
mod defect;
mod driver;
mod guest;
mod model;
mod pump;
mod random;
#[cfg(test)]
mod tests;
mod world;
