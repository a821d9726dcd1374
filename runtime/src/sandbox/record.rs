//! The record of a sandbox's PID 1, in the workspace's directory.
//!
//! On the host that process belongs to nobody's user, and neither its working directory nor its command line can name
//! the workspace without telling the sandbox. So this file is how a later daemon finds it.

use std::fs;
use std::io;
use std::path::Path;

use pyro_core::Process;

use crate::process::ProcessRef;

/// Name of the record.
const RECORD: &str = "init.json";

/// Name under which it is written.
const NEW_RECORD: &str = "init.json.new";

/// What a later daemon needs to find the process.
#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    pid: u32,
    start_ticks: u64,
    /// A start time is counted since this boot of the host.
    host_boot_id: String,
}

/// Writes the record. A crash of the host may take it, because it takes the process as well.
pub(super) fn write(dir: &Path, process: Process) -> io::Result<()> {
    let Process { pid, start_ticks } = process;
    let record = Record { pid, start_ticks, host_boot_id: host_boot_id()? };
    fs::write(dir.join(NEW_RECORD), serde_json::to_vec(&record)?)?;
    fs::rename(dir.join(NEW_RECORD), dir.join(RECORD))
}

/// Returns the recorded process if it is still there.
pub(super) fn find(dir: &Path) -> io::Result<Option<ProcessRef>> {
    let text = match fs::read(dir.join(RECORD)) {
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
        assert!(find(dir.path()).unwrap().is_none());
        let own = ProcessRef::own().unwrap().process();
        write(dir.path(), own).unwrap();
        assert_eq!(find(dir.path()).unwrap().unwrap().process(), own);
        write(dir.path(), Process { start_ticks: own.start_ticks + 1, ..own }).unwrap();
        assert!(find(dir.path()).unwrap().is_none(), "the pid belongs to another process");
    }

    #[test]
    fn a_record_of_another_boot_or_without_content_finds_nobody() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), ProcessRef::own().unwrap().process()).unwrap();
        let text = fs::read_to_string(dir.path().join(RECORD)).unwrap();
        let other = text.replace(&host_boot_id().unwrap(), "another boot");
        assert_ne!(text, other);
        for text in [other.as_str(), "", "\0\0\0"] {
            fs::write(dir.path().join(RECORD), text).unwrap();
            assert!(find(dir.path()).unwrap().is_none(), "{text:?}");
        }
    }
}
