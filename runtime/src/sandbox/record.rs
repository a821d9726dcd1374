//! The record of a sandbox's first process, in the workspace's directory.

use std::fs;
use std::io;
use std::path::Path;

use pyro_core::Process;

use crate::process::ProcessRef;

/// Name of the record.
const RECORD: &str = "init.json";

/// What a later daemon needs to find the process.
#[derive(serde::Serialize, serde::Deserialize)]
struct Record {
    pid: u32,
    start_ticks: u64,
    host_boot_id: String,
}

/// Writes the record. It survives this process, which is all it is for, and is not flushed.
pub(super) fn write(dir: &Path, process: Process) -> io::Result<()> {
    let record = Record { pid: process.pid, start_ticks: process.start_ticks, host_boot_id: boot_id()? };
    let temporary = dir.join("init.json.new");
    fs::write(&temporary, serde_json::to_vec(&record)?)?;
    fs::rename(temporary, dir.join(RECORD))
}

/// Returns the recorded process if it is still there.
pub(super) fn find(dir: &Path) -> io::Result<Option<ProcessRef>> {
    let text = match fs::read(dir.join(RECORD)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let record: Record = serde_json::from_slice(&text)?;
    if record.host_boot_id != boot_id()? {
        return Ok(None);
    }
    ProcessRef::find(Process { pid: record.pid, start_ticks: record.start_ticks })
}

fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}
