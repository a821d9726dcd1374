//! Real sandboxes. They need an installed environment and the static guest agent: `PYRO_TEST_ENVIRONMENTS` names the
//! directory of environments and `PYRO_TEST_AGENT` the agent; without them the tests say so and do nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod files;
mod hostile;
mod isolation;
mod lifetime;
mod network;
mod place;
