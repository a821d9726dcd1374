//! Live files and directories that the kernel has open.

use std::collections::HashMap;
use std::sync::Arc;

use pyro_core::WorkspaceId;
use pyro_protocol::Listed;

use super::files::LiveFile;

/// A live file that is open.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) workspace: WorkspaceId,
    /// As the kernel knows the file.
    pub(super) number: u64,
    pub(super) file: LiveFile,
}

/// What is open, by the numbers that the kernel has for it.
#[derive(Debug, Default)]
pub(super) struct Handles {
    files: HashMap<u64, Held>,
    /// Directories with what they listed when they were read from the beginning.
    directories: HashMap<u64, Option<Arc<[Listed]>>>,
    given_out: u64,
}

impl Handles {
    pub(super) fn add(&mut self, held: Held) -> u64 {
        let handle = self.next();
        self.files.insert(handle, held);
        handle
    }

    pub(super) fn get(&self, handle: u64) -> Option<Held> {
        self.files.get(&handle).cloned()
    }

    pub(super) fn remove(&mut self, handle: u64) -> Option<Held> {
        self.files.remove(&handle)
    }

    /// Returns the guest's handle of a file that somebody has open; `None` when nobody has.
    pub(super) fn of(&self, number: u64) -> Option<u64> {
        self.files.values().find(|held| held.number == number).map(|held| held.file.handle)
    }

    pub(super) fn add_directory(&mut self) -> u64 {
        let handle = self.next();
        self.directories.insert(handle, None);
        handle
    }

    /// Returns what an open directory listed; `None` when it was not read yet.
    pub(super) fn listed(&self, handle: u64) -> Option<Arc<[Listed]>> {
        self.directories.get(&handle)?.clone()
    }

    pub(super) fn set_listed(&mut self, handle: u64, listed: Arc<[Listed]>) {
        if let Some(directory) = self.directories.get_mut(&handle) {
            *directory = Some(listed);
        }
    }

    pub(super) fn remove_directory(&mut self, handle: u64) {
        self.directories.remove(&handle);
    }

    fn next(&mut self) -> u64 {
        self.given_out += 1;
        self.given_out
    }
}
