//! The log and the output files as a file tree.
//!
//! ```text
//! kernel -> adapter -> view (tree, history, content) -> log reader, output files
//!              |  \--> waiting: reads that wait for more
//!              \-----> host: what is written becomes a wish
//! ```
//!
//! What must stay true (`docs/semantics.md` has the promises):
//!
//! - [`View`] is a function of the log and the output files. It has no thread and knows no kernel, so it is tested without one.
//! - The adapter translates calls and errors and does nothing else.
//! - No call of the kernel waits for a guest, a client or another call. What waits is parked and holds no thread.
//! - Whoever implements [`Host`] decides what a wish leads to; nothing here does.

mod adapter;
mod attributes;
mod cast;
mod content;
mod ctl;
mod drawn;
mod errno;
mod escape;
mod history;
mod host;
mod ledger;
mod live;
mod node;
mod nodes;
mod passthrough;
mod screen;
mod session;
mod signals;
mod tree;
mod view;
mod waiting;
mod writing;

pub use attributes::{Attributes, Kind};
pub use content::Content;
pub use history::{ExecEnd, ExecRecord, Outcome};
pub use host::{Done, Host, Refusal, RefusalKind, Wish, Writer};
pub use live::{Answering, FileError, Files, LiveFile};
pub use node::{LogFile, Node, ShellFile, WorkspaceFile};
pub use session::{Mount, MountError, Visibility, clear};
pub use view::{Next, View, ViewError};
