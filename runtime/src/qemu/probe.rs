//! Whether KVM boots a guest here.
//!
//! That `/dev/kvm` opens proves little: some virtual machines offer it and then never get through the boot of a stock
//! kernel. Only a guest that answered counts.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use pyro_core::{ProbeVerdict, WorkspaceId};

use super::accelerator::VmAccelerator;
use super::boot::{BootSpec, Booted, Images, boot_once};
use super::error::BootError;
use super::machine::destroy;
use crate::host::{Tool, Tools};

const KVM: &str = "/dev/kvm";

/// Time for the guest of the probe to answer. KVM that works takes well below a second.
const DEADLINE: Duration = Duration::from_secs(8);

/// Memory of the guest of the probe, in MiB.
const MEM_MIB: u64 = 256;

/// Size of its disk, in MiB.
const DISK_MIB: u64 = 64;

/// Boots a small guest with KVM in `dir`, which is made and removed, and tells what came of it. It takes up to 8 s.
pub async fn probe_kvm(images: Images, program: PathBuf, tools: Tools, dir: PathBuf) -> ProbeVerdict {
    if let Err(error) = File::options().read(true).write(true).open(KVM) {
        return ProbeVerdict::Fails { reason: format!("{KVM}: {error}") };
    }
    let spec = BootSpec {
        workspace: WorkspaceId::from_bytes([0; 6]),
        dir,
        images,
        vcpu_count: 1,
        mem_mib: MEM_MIB,
        disk_mib: DISK_MIB,
        network: false,
        accelerator: VmAccelerator::Kvm,
        deadline: DEADLINE,
        program,
        tools,
    };
    let booted = boot_once(&spec, DEADLINE).await;
    // The guest has nothing to lose, and nobody could use a verdict on what is left of it.
    let cleared = destroy(&spec.dir).await;
    match (booted, cleared) {
        (Ok(Booted { boot_ms, .. }), Ok(())) => ProbeVerdict::Works { boot_ms },
        (Ok(_), Err(error)) => {
            ProbeVerdict::Fails { reason: format!("its guest cannot be removed: {error}") }
        }
        (Err(BootError::Silent { waited, .. }), _) => ProbeVerdict::Fails {
            reason: format!("{KVM} opens, but a guest did not boot within {} s", waited.as_secs()),
        },
        (Err(error), _) => ProbeVerdict::Fails { reason: error.to_string() },
    }
}

/// Returns a text that is another one whenever the verdict on KVM may be another one: with another host kernel,
/// processor, QEMU or guest kernel.
///
/// # Errors
///
/// When QEMU cannot be found.
pub fn fingerprint(tools: &Tools, kernel_version: &str) -> io::Result<String> {
    let qemu =
        tools.require(Tool::Qemu).map_err(|missing| io::Error::new(io::ErrorKind::NotFound, missing))?;
    // Asking QEMU for its version would take longer than many a command in a guest.
    let file = fs::metadata(&qemu)?;
    let host = rustix::system::uname();
    Ok(format!(
        "host {}; processor {}; qemu {} of {} bytes, changed {}; guest {kernel_version}",
        host.release().to_string_lossy(),
        processor()?,
        qemu.display(),
        file.len(),
        file.mtime(),
    ))
}

fn processor() -> io::Result<String> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    Ok(model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()))
}
