//! The directory of output files and the names in it.

use std::io;
use std::path::{Path, PathBuf};

use pyro_core::{Gaps, StreamId, StreamSummary, WorkspaceId};

use super::error::OutputError;
use super::reader::OutputReader;
use super::writer::OutputWriter;
use crate::files;

/// The directory with the output of all commands and shells. Clones name the same directory.
#[derive(Clone, Debug)]
pub struct Outputs {
    dir: PathBuf,
}

impl Outputs {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    ///
    /// [`OutputError`] when it cannot be made.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OutputError> {
        let dir = dir.as_ref();
        files::create_dir(dir).map_err(|source| OutputError::io(dir, source))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Begins a stream.
    ///
    /// # Errors
    ///
    /// [`OutputError::Exists`] when it was begun before.
    pub fn create(&self, workspace: WorkspaceId, stream: StreamId) -> Result<OutputWriter, OutputError> {
        OutputWriter::create(self.prepare(workspace, stream)?)
    }

    /// Goes on with a stream behind the bytes that are there, or begins it. Reads them once, for their digest, unless some
    /// of them are dropped.
    ///
    /// # Errors
    ///
    /// [`OutputError`] when the files cannot be opened or read.
    pub fn resume(
        &self,
        workspace: WorkspaceId,
        stream: StreamId,
        gaps: &Gaps,
    ) -> Result<OutputWriter, OutputError> {
        OutputWriter::resume(self.prepare(workspace, stream)?, gaps)
    }

    /// Opens a stream for reading. One that has no file reads as empty.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`] when the file cannot be opened.
    pub fn read(&self, workspace: WorkspaceId, stream: StreamId) -> Result<OutputReader, OutputError> {
        OutputReader::open(self.path(workspace, stream))
    }

    /// Returns the length of what was stored of a stream, and the digest of what of it lies outside of the gaps, for an exec
    /// or a shell that was lost. `None` when not a byte was.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`] when the file cannot be read.
    pub fn summary(
        &self,
        workspace: WorkspaceId,
        stream: StreamId,
        gaps: &Gaps,
    ) -> Result<Option<StreamSummary>, OutputError> {
        let reader = self.read(workspace, stream)?;
        let len_bytes = reader.len_bytes()?;
        let digest = reader.digest(0..len_bytes, gaps)?;
        Ok((len_bytes > 0).then_some(StreamSummary { len_bytes, digest }))
    }

    /// Removes all output of a workspace; none is fine too.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`] when something cannot be removed.
    pub fn remove_workspace(&self, workspace: WorkspaceId) -> Result<(), OutputError> {
        let dir = self.workspace_dir(workspace);
        match std::fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(OutputError::io(&dir, source)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns the file with the bytes of a stream; it need not exist.
    #[must_use]
    pub fn path(&self, workspace: WorkspaceId, stream: StreamId) -> PathBuf {
        self.workspace_dir(workspace).join(stream.to_string())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn workspace_dir(&self, workspace: WorkspaceId) -> PathBuf {
        self.dir.join(workspace.to_string())
    }

    fn prepare(&self, workspace: WorkspaceId, stream: StreamId) -> Result<PathBuf, OutputError> {
        let dir = self.workspace_dir(workspace);
        files::create_dir(&dir).map_err(|source| OutputError::io(&dir, source))?;
        Ok(self.path(workspace, stream))
    }
}

/// Returns the file of times that belongs to a file of bytes.
pub(super) fn times_path(data: &Path) -> PathBuf {
    let mut name = data.as_os_str().to_owned();
    name.push(".times");
    PathBuf::from(name)
}
