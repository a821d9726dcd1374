//! Removing directories with all they hold.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, RenameFlags};
use rustix::io::Errno;

use crate::files::cursor::{for_each, open_directory};

/// Removes the directory `name` with all it holds.
///
/// A guest's own directories end up here, as deep as it likes. Depth costs neither stack nor descriptors: a
/// directory in a directory is moved up to the top before it is emptied.
pub(super) fn remove(parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    Removal::of(open_directory(&parent, name)?)?.run()?;
    rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
}

struct Removal {
    top: OwnedFd,
    /// Names of the directories in the top.
    waiting: Vec<Vec<u8>>,
    moved: u64,
}

impl Removal {
    fn of(top: OwnedFd) -> Result<Self, Errno> {
        let mut waiting = Vec::new();
        for_each(&top, |name, kind| {
            if kind == FileType::Directory {
                waiting.push(name.to_vec());
                Ok(())
            } else {
                rustix::fs::unlinkat(&top, name, AtFlags::empty())
            }
        })?;
        Ok(Self { top, waiting, moved: 0 })
    }

    fn run(mut self) -> Result<(), Errno> {
        while let Some(name) = self.waiting.pop() {
            let directory = open_directory(&self.top, &name)?;
            for_each(&directory, |child, kind| match kind {
                FileType::Directory => match rustix::fs::unlinkat(&directory, child, AtFlags::REMOVEDIR) {
                    Err(Errno::NOTEMPTY | Errno::EXIST) => self.move_up(&directory, child),
                    removed => removed,
                },
                _ => rustix::fs::unlinkat(&directory, child, AtFlags::empty()),
            })?;
            rustix::fs::unlinkat(&self.top, &name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    fn move_up(&mut self, directory: &OwnedFd, child: &[u8]) -> Result<(), Errno> {
        loop {
            let name = format!("up-{}", self.moved).into_bytes();
            self.moved += 1;
            match rustix::fs::renameat_with(
                directory,
                child,
                &self.top,
                name.as_slice(),
                RenameFlags::NOREPLACE,
            ) {
                // A removal that a crash interrupted left it.
                Err(Errno::EXIST) => {}
                moved => {
                    moved?;
                    self.waiting.push(name);
                    return Ok(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::files::cursor::make_directory;

    /// One level below another costs a descriptor and a stack frame in the standard library's removal, and a path
    /// that a call takes has 4,096 bytes.
    #[test]
    fn what_is_deeper_than_descriptors_and_paths_reach_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let top =
            rustix::fs::open(directory.path(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        let mut deepest = make_directory(&top, b"tree").unwrap();
        for _ in 0..5000 {
            deepest = make_directory(&deepest, b"deep").unwrap();
        }
        drop(rustix::fs::openat(&deepest, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
        remove(&top, b"tree").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    /// A removal that follows links removes what is none of its business, and one that a crash cut short must not
    /// stand in the way of the next.
    #[test]
    fn links_are_removed_and_not_what_they_lead_to() {
        let directory = tempfile::tempdir().unwrap();
        let [outside, tree] = ["outside", "tree"].map(|name| directory.path().join(name));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(tree.join("up-0/d/e")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), b"").unwrap();
        symlink(&outside, tree.join("a/link")).unwrap();
        fs::set_permissions(tree.join("a/b"), fs::Permissions::from_mode(0o1777)).unwrap();
        let top =
            rustix::fs::open(directory.path(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        remove(&top, b"tree").unwrap();
        assert!(!tree.exists() && outside.join("kept").exists());
        assert_eq!(remove(&top, b"tree"), Err(Errno::NOENT));
    }
}
