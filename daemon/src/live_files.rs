//! The files in running guests, for the mounts.
//!
//! Each guest has one connection for its files, which is made when somebody first asks and made anew when it broke. A file that
//! was open on a connection is gone with it: handles name their connection, so none is ever taken for another's.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pyro_core::{WORKSPACE_PATH, WorkspaceId};
use pyro_fusefs::{Answering, FileError, Files, LiveFile};
use pyro_runtime::guest::{FileAnswer, FileCall, FilesError, Guest, GuestFiles};
use tokio::runtime::Handle;

/// How long a guest may take to answer. A program that waits for its files cannot be interrupted meanwhile.
const ALLOWANCE: Duration = Duration::from_secs(5);

/// Bits of a handle that are the guest's; those above name the connection.
const HANDLE_BITS: u32 = 32;

/// The guests that run, and the connections for their files.
#[derive(Debug)]
pub(crate) struct LiveFiles {
    runtime: Handle,
    guests: Mutex<HashMap<WorkspaceId, Arc<Running>>>,
}

/// A running guest.
#[derive(Debug)]
struct Running {
    guest: Guest,
    /// The connection, and how many there were before it.
    connection: tokio::sync::Mutex<(u64, Option<GuestFiles>)>,
}

/// A connection, and its number among those of its guest.
#[derive(Debug)]
struct Connection {
    number: u64,
    files: GuestFiles,
}

impl LiveFiles {
    /// Returns the files of no guest yet, whose calls are run by this runtime.
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { runtime, guests: Mutex::default() }
    }

    /// A guest answers.
    pub(crate) fn appeared(&self, workspace: WorkspaceId, guest: Guest) {
        let running = Running { guest, connection: tokio::sync::Mutex::default() };
        self.guests().insert(workspace, Arc::new(running));
    }

    /// A guest is gone, or about to go.
    pub(crate) fn went(&self, workspace: WorkspaceId) {
        self.guests().remove(&workspace);
    }

    fn running(&self, workspace: WorkspaceId) -> Result<Arc<Running>, FileError> {
        self.guests().get(&workspace).map(Arc::clone).ok_or(FileError::Stopped)
    }

    fn guests(&self) -> std::sync::MutexGuard<'_, HashMap<WorkspaceId, Arc<Running>>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Returns the connection, which is made when there is none that works.
    async fn connection(&self) -> Result<Connection, FileError> {
        let mut connection = self.connection.lock().await;
        let (number, held) = &mut *connection;
        if let Some(files) = held.as_ref().filter(|files| files.end().is_none()) {
            return Ok(Connection { number: *number, files: files.clone() });
        }
        if let Some(end) = held.take().as_ref().and_then(GuestFiles::end) {
            tracing::debug!(error = %end, "the connection to the files of a guest ended");
        }
        match self.guest.files(WORKSPACE_PATH, ALLOWANCE).await {
            Ok(files) => {
                *number += 1;
                *held = Some(files.clone());
                Ok(Connection { number: *number, files })
            }
            Err(error) => {
                tracing::warn!(%error, "the files of a guest cannot be reached");
                Err(FileError::Failed)
            }
        }
    }
}

impl Connection {
    /// Returns a handle of this connection as the mounts know it.
    const fn outer(&self, handle: u64) -> u64 {
        self.number << HANDLE_BITS | handle
    }

    /// Returns a handle as the guest knows it.
    fn inner(&self, handle: u64) -> Result<u64, FileError> {
        // What was open on an earlier connection is closed.
        (handle >> HANDLE_BITS == self.number)
            .then_some(handle & ((1 << HANDLE_BITS) - 1))
            .ok_or(FileError::Failed)
    }

    fn call(&self, mut call: FileCall) -> Result<FileCall, FileError> {
        if let Some(handle) = call.handle_mut() {
            *handle = self.inner(*handle)?;
        }
        Ok(call)
    }
}

const fn failure(error: &FilesError) -> FileError {
    match error {
        FilesError::Refused { errno } => FileError::Refused(*errno),
        FilesError::Silent { .. } | FilesError::Gone => FileError::Failed,
    }
}

impl Files for LiveFiles {
    fn call(&self, workspace: WorkspaceId, call: FileCall) -> Answering<FileAnswer> {
        let running = self.running(workspace);
        Box::pin(async move {
            let connection = running?.connection().await?;
            let call = connection.call(call)?;
            let answer = connection.files.call(call).await.map_err(|error| failure(&error))?;
            Ok(answer)
        })
    }

    fn open(&self, workspace: WorkspaceId, call: FileCall) -> Answering<LiveFile> {
        let running = self.running(workspace);
        Box::pin(async move {
            let connection = running?.connection().await?;
            let opened = connection.files.open(call).await.map_err(|error| failure(&error))?;
            let handle = connection.outer(opened.handle);
            Ok(LiveFile { handle, stat: opened.stat, local: opened.local })
        })
    }

    fn read(&self, workspace: WorkspaceId, handle: u64, offset: u64, len: u32) -> Answering<Bytes> {
        let running = self.running(workspace);
        Box::pin(async move {
            let connection = running?.connection().await?;
            let handle = connection.inner(handle)?;
            connection.files.read(handle, offset, len).await.map_err(|error| failure(&error))
        })
    }

    fn write(&self, workspace: WorkspaceId, handle: u64, offset: u64, data: Bytes) -> Answering<u32> {
        let running = self.running(workspace);
        Box::pin(async move {
            let connection = running?.connection().await?;
            let handle = connection.inner(handle)?;
            connection.files.write(handle, offset, data).await.map_err(|error| failure(&error))
        })
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.runtime.spawn(task);
    }
}
