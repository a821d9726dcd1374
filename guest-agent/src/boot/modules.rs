//! Kernel modules of the initramfs.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Loads the modules that `order` in the directory names, one a line, by their paths below it; then removes the
/// directory's files, which take memory as long as they exist.
pub(crate) fn load(directory: &Path) -> io::Result<()> {
    let order = fs::read_to_string(directory.join("order"))?;
    for name in order.lines().filter(|line| !line.is_empty()) {
        load_one(&directory.join(name))
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    }
    fs::remove_dir_all(directory)
}

fn load_one(path: &Path) -> io::Result<()> {
    match rustix::system::finit_module(File::open(path)?, c"", 0) {
        // Built into this kernel, or loaded as a dependency.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
