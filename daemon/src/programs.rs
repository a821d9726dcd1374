//! Where the programs are that belong to pyro.

use std::io;
use std::path::{Path, PathBuf};

/// File name of the guest agent.
const AGENT: &str = "pyro-guest-agent";

/// Programs that the daemon starts besides the tools of the host.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// This program itself, for the host sandbox.
    pub(crate) pyro: PathBuf,
    /// The guest agent; it need not be there.
    pub(crate) agent: PathBuf,
}

impl Programs {
    /// Finds them from the place of this program: beside it, or in `libexec/pyro` of the same installation.
    pub(crate) fn find() -> io::Result<Self> {
        let pyro = std::env::current_exe()?;
        let bin = pyro.parent().unwrap_or_else(|| Path::new("/"));
        let beside = bin.join(AGENT);
        let libexec = bin.join("../libexec/pyro").join(AGENT);
        let agent = if beside.exists() { beside } else { libexec.canonicalize().unwrap_or(libexec) };
        Ok(Self { pyro, agent })
    }
}
