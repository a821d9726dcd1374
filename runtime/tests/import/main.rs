//! What seeds and syncs read: directories that change under the reader, archives made to be misread, and both against
//! each other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod collected;
mod damage;
mod differential;
mod directory;
mod fate;
mod headers;
mod hostile;
mod mutation;
mod snapshot;
mod tar_bytes;
