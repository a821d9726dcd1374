//! The tree, without a kernel and through a real mount.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

#[cfg(test)]
mod guests;
#[cfg(test)]
mod live;
#[cfg(test)]
mod mounted;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod sentences;
#[cfg(test)]
mod tree;
#[cfg(test)]
mod world;
