//! From the kernel's start of `/init` to the served guest, and to its end.
//!
//! The phases run one after the other before anything is concurrent. A phase that fails is named on the console,
//! which the host keeps, and the machine is powered off: a guest that did not boot must not look alive.

mod cmdline;
mod console;
mod devices;
mod modules;
mod mounts;
mod network;
mod power;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use crate::agent;
use crate::tree::{Cgroups, Trees, Wardens};
use cmdline::Settings;
use mounts::Disk;

/// A phase of the boot that failed.
#[derive(Debug, thiserror::Error)]
#[error("boot: {phase}")]
struct BootError {
    phase: &'static str,
    source: io::Error,
}

/// Boots, serves, and powers off.
pub(crate) fn run() -> ExitCode {
    let mut disk = None;
    let ended = boot(&mut disk).and_then(|trees| phase("serve", || agent::run_on_vsock(trees)));
    if let Err(error) = ended {
        agent::complain(&error);
    }
    power::off(disk.as_ref())
}

/// Boots; `disk` is set as soon as there is one to be left clean.
fn boot(disk: &mut Option<Disk>) -> Result<Trees, BootError> {
    phase("mount the kernel's file systems", mounts::early)?;
    phase("open the console", console::adopt)?;
    let settings = phase("read the kernel command line", Settings::read)?;
    phase("load the modules", || modules::load(Path::new("/modules")))?;
    phase("wait for the image", || devices::wait(&settings.image))?;
    phase("wait for the disk", || devices::wait(&settings.disk))?;
    *disk = Some(phase("join image and disk", || mounts::root(&settings.image, &settings.disk))?);
    phase("switch the root", mounts::switch_root)?;
    phase("mount what commands expect", mounts::late)?;
    phase("set the host name", || Ok(rustix::system::sethostname(settings.hostname.as_bytes())?))?;
    phase("bring the loopback interface up", network::loopback)?;
    if let Some(network) = &settings.network {
        phase("set the network up", || network::outside(network))?;
    }
    Ok(match mounts::cgroups().and_then(|mount| Cgroups::new(&mount)) {
        Ok(cgroups) => Trees::Cgroups(cgroups),
        // A kernel without cgroup2 is slower here, not broken.
        Err(source) => {
            agent::complain(&BootError { phase: "mount cgroup2", source });
            Trees::Wardens(std::rc::Rc::new(Wardens::default()))
        }
    })
}

fn phase<T>(phase: &'static str, work: impl FnOnce() -> io::Result<T>) -> Result<T, BootError> {
    work().map_err(|source| BootError { phase, source })
}
