//! The console, on which a failed boot says why.

use std::fs::File;
use std::io;

/// Makes `/dev/console` stdin, stdout and stderr: what the kernel opened for init depends on the initramfs.
pub(crate) fn adopt() -> io::Result<()> {
    let console = File::options().read(true).write(true).open("/dev/console")?;
    rustix::stdio::dup2_stdin(&console)?;
    rustix::stdio::dup2_stdout(&console)?;
    rustix::stdio::dup2_stderr(&console)?;
    Ok(())
}
