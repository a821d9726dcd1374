//! What the live files of workspaces need from the daemon that serves the tree.

use std::fmt;
use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use pyro_core::WorkspaceId;
use pyro_protocol::{FileAnswer, FileCall, FileStat};

/// What comes of a call, some time later. It comes in bounded time, whatever the guest does.
pub type Answering<T> = Pin<Box<dyn Future<Output = Result<T, FileError>> + Send>>;

/// The files in the guests of workspaces.
pub trait Files: fmt::Debug + Send + Sync + 'static {
    /// Carries a call out that neither reads, writes nor opens. The answer is of the kind that belongs to the call.
    fn call(&self, workspace: WorkspaceId, call: FileCall) -> Answering<FileAnswer>;

    /// Opens a file, by a call that does so.
    fn open(&self, workspace: WorkspaceId, call: FileCall) -> Answering<LiveFile>;

    /// Reads from an open file; fewer bytes than asked for only at its end.
    fn read(&self, workspace: WorkspaceId, handle: u64, offset: u64, len: u32) -> Answering<Bytes>;

    /// Writes into an open file and gives how many bytes were written.
    fn write(&self, workspace: WorkspaceId, handle: u64, offset: u64, data: Bytes) -> Answering<u32>;

    /// Runs a task to its end.
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>);
}

/// A file that is open in a guest.
#[derive(Clone, Debug)]
pub struct LiveFile {
    /// Names it in further calls.
    pub handle: u64,
    /// What it was when it was opened.
    pub stat: FileStat,
    /// The file itself, where the guest is on this kernel: no call is needed to read and write it.
    pub local: Option<Arc<File>>,
}

/// Why a call gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// The guest refused it, with a Linux error number.
    Refused(i32),
    /// The workspace has no guest now.
    Stopped,
    /// There is no such workspace.
    Gone,
    /// The guest does not answer, or not as it should.
    Failed,
}
