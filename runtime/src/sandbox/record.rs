//! The records of a sandbox's processes, in the workspace's directory.
//!
//! On the host PID 1 belongs to nobody's user, and neither its working directory nor its command line can name
//! the workspace without telling the sandbox. So its record is how a later daemon finds it. The process that carries the
//! network can be found without one, and ends by itself; the record is there to wait for that.

use std::fs;
use std::io;
use std::path::Path;

use pyro_core::Process;

use crate::process::ProcessRef;

/// A process that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// PID 1.
    First,
    /// slirp4netns, in a sandbox with a network.
    Network,
}

impl Role {
    /// Returns the name of the record.
    const fn file(self) -> &'static str {
        match self {
            Self::First => "init.json",
            Self::Network => "network.json",
        }
    }
}

/// What a later daemon needs to find the process.
#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    pid: u32,
    start_ticks: u64,
    /// A start time is counted since this boot of the host.
    host_boot_id: String,
}

/// Writes a record. A crash of the host may take it, because it takes the process as well.
pub(super) fn write(dir: &Path, role: Role, process: Process) -> io::Result<()> {
    let Process { pid, start_ticks } = process;
    let record = Record { pid, start_ticks, host_boot_id: host_boot_id()? };
    let new = dir.join(format!("{}.new", role.file()));
    fs::write(&new, serde_json::to_vec(&record)?)?;
    fs::rename(&new, dir.join(role.file()))
}

/// Returns the recorded process if it is still there.
pub(super) fn find(dir: &Path, role: Role) -> io::Result<Option<ProcessRef>> {
    let text = match fs::read(dir.join(role.file())) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // What a crash of the host left of a record need not be one.
    let Ok(Record { pid, start_ticks, host_boot_id: recorded }) = serde_json::from_slice(&text) else {
        return Ok(None);
    };
    if recorded != host_boot_id()? {
        return Ok(None);
    }
    ProcessRef::find(Process { pid, start_ticks })
}

fn host_boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_process_is_found_while_it_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(dir.path(), Role::First).unwrap().is_none());
        let own = ProcessRef::own().unwrap().process();
        write(dir.path(), Role::First, own).unwrap();
        assert_eq!(find(dir.path(), Role::First).unwrap().unwrap().process(), own);
        assert!(find(dir.path(), Role::Network).unwrap().is_none(), "each has a record of its own");
        write(dir.path(), Role::First, Process { start_ticks: own.start_ticks + 1, ..own }).unwrap();
        assert!(find(dir.path(), Role::First).unwrap().is_none(), "the pid belongs to another process");
    }

    #[test]
    fn a_record_of_another_boot_or_without_content_finds_nobody() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), Role::First, ProcessRef::own().unwrap().process()).unwrap();
        let text = fs::read_to_string(dir.path().join(Role::First.file())).unwrap();
        let other = text.replace(&host_boot_id().unwrap(), "another boot");
        assert_ne!(text, other);
        for text in [other.as_str(), "", "\0\0\0"] {
            fs::write(dir.path().join(Role::First.file()), text).unwrap();
            assert!(find(dir.path(), Role::First).unwrap().is_none(), "{text:?}");
        }
    }
}
