//! From nothing to a guest that answers.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_core::WorkspaceId;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::accelerator::VmAccelerator;
use super::command_line;
use super::console::Console;
use super::disk;
use super::error::{BootError, LastWords};
use super::machine::Machine;
use super::vsock::{self, Bridge, Vsock};
use crate::environment::Installed;
use crate::guest::{Announcements, Guest, GuestError, Transport};
use crate::host::{Tool, Tools, tsc_khz};
use crate::process::{Detached, Ended, ProcessRef};

/// Time between two looks whether the agent listens, where it cannot announce itself.
const LISTEN_PAUSE: Duration = Duration::from_millis(10);

/// A guest to boot.
#[derive(Clone, Debug)]
pub struct BootSpec {
    /// Whose guest it is; its host name.
    pub workspace: WorkspaceId,
    /// Directory of the workspace, made when it is missing: disk and sockets are in it.
    pub dir: PathBuf,
    /// What it boots from.
    pub images: Images,
    /// Virtual processors; at least 1.
    pub vcpu_count: u32,
    /// Memory, in MiB.
    pub mem_mib: u64,
    /// Size of the workspace's disk when it is made now, in MiB. It takes the space that is used.
    pub disk_mib: u64,
    /// Whether it gets a way out; without it there is loopback only.
    pub network: bool,
    /// What executes its instructions.
    pub accelerator: VmAccelerator,
    /// Time for it to answer. The first of two tries gets half of it.
    pub deadline: Duration,
    /// A program that calls [`connector_main`](crate::guest::connector_main) when it is given the argument
    /// `vsock-connector`.
    pub program: PathBuf,
    /// Where the programs of the host are.
    pub tools: Tools,
}

/// The files of an environment that a guest boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// An uncompressed Linux kernel.
    pub kernel: PathBuf,
    /// Its modules and the agent.
    pub initramfs: PathBuf,
    /// The root file system, EROFS.
    pub rootfs: PathBuf,
}

impl Images {
    /// Returns the files of an installed environment, with this agent. It may have to make the initramfs: call it
    /// where blocking is allowed.
    ///
    /// # Errors
    ///
    /// When the initramfs cannot be made.
    pub fn of(installed: &Installed, agent: &Path) -> io::Result<Self> {
        Ok(Self {
            kernel: installed.vmlinux(),
            initramfs: installed.initramfs(agent)?,
            rootfs: installed.rootfs_image(),
        })
    }
}

/// A guest that has just answered for the first time.
#[derive(Debug)]
pub struct Booted {
    /// The guest.
    pub machine: Machine,
    /// Time from the start of QEMU to the agent's first word, in milliseconds.
    pub boot_ms: u64,
}

/// Boots a guest, with a second try when the first one stays silent: now and then a guest under TCG hangs in the
/// calibration of its clock.
///
/// Dropping the future kills what it has started. The directory stays, and so does the disk.
///
/// # Errors
///
/// See [`BootError`]; nothing runs any more then.
pub async fn boot(spec: &BootSpec) -> Result<Booted, BootError> {
    match boot_once(spec, spec.deadline / 2).await {
        Err(BootError::Silent { .. }) => boot_once(spec, spec.deadline).await,
        booted => booted,
    }
}

/// Boots a guest with a single try.
pub(super) async fn boot_once(spec: &BootSpec, deadline: Duration) -> Result<Booted, BootError> {
    let vsock = Vsock::choose(&spec.tools, spec.workspace)?;
    let qemu = spec.tools.require(Tool::Qemu)?;
    let mkfs = spec.tools.require(Tool::MkfsExt4)?;
    let prepare = |what| {
        let path = spec.dir.clone();
        move |source| BootError::Prepare { what, path, source }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&spec.dir)
        .map_err(prepare("make the workspace's directory"))?;
    // The first measurement takes 25 ms, which pass while the disk is made.
    let clock = spawn_blocking(tsc_khz);
    vsock::remove_sockets(&spec.dir).map_err(prepare("remove old sockets"))?;
    let disk = disk::ensure(&spec.dir, spec.disk_mib, &mkfs).await?;
    let (mut console, output) = Console::open().map_err(prepare("open a pipe"))?;
    let tsc_khz = clock.await.map_err(|error| prepare("measure the clock")(io::Error::other(error)))?;
    let attempt = Attempt { spec, vsock: &vsock, qemu: &qemu, disk: &disk, tsc_khz, deadline };
    let mut started = Started::default();
    match attempt.run(output, &mut started).await {
        Ok(Answered { guest, process, boot_ms }) => {
            started.keep();
            let machine = Machine::booted(spec.dir.clone(), guest, process, console);
            Ok(Booted { machine, boot_ms })
        }
        Err(error) => {
            started.end().await;
            Err(error.with_console(LastWords(console.last_words().await)))
        }
    }
}

struct Attempt<'a> {
    spec: &'a BootSpec,
    vsock: &'a Vsock,
    qemu: &'a Path,
    disk: &'a Path,
    tsc_khz: u64,
    deadline: Duration,
}

struct Answered {
    guest: Guest,
    process: ProcessRef,
    boot_ms: u64,
}

impl Attempt<'_> {
    async fn run(&self, output: OwnedFd, started: &mut Started) -> Result<Answered, BootError> {
        const QEMU: &str = "qemu-system-x86_64";
        let failed = |source| BootError::Run { program: QEMU, source };
        let transport = self.vsock.transport(&self.spec.dir);
        let announcements = match &transport {
            Transport::VsockBridge { uds } => Some(Announcements::bind(uds).map_err(|source| {
                BootError::Prepare { what: "listen for the guest", path: uds.clone(), source }
            })?),
            Transport::Vsock { .. } | Transport::Unix { .. } => None,
        };
        let firmware = firmware(self.qemu);
        let arguments =
            command_line::arguments(self.spec, self.vsock, self.disk, self.tsc_khz, firmware.as_deref());
        let mut vmm = Detached::new(self.qemu, &self.spec.dir).args(arguments);
        let mut bridge = None;
        if let Vsock::Bridge { program } = self.vsock {
            let output = output.try_clone().map_err(failed)?;
            let Bridge { ended, device } =
                vsock::start_bridge(program, &self.spec.dir, output, &mut started.0).await?;
            vsock::start_connector(&self.spec.program, &self.spec.dir, &mut started.0)?;
            vmm = vmm.stdin(device);
            bridge = Some(ended);
        }
        let begun = Instant::now();
        let (process, mut ended) = vmm.output(output).spawn().map_err(failed)?;
        started.0.push(process.clone());
        let guest = tokio::select! {
            answered = timeout(self.deadline, first_answer(transport, announcements)) => match answered {
                Ok(Ok(guest)) => guest,
                Ok(Err(source)) => return Err(BootError::Agent { source, console: LastWords::default() }),
                Err(_elapsed) => {
                    return Err(BootError::Silent { waited: self.deadline, console: LastWords::default() });
                }
            },
            status = ended.wait() => return Err(ended_with(QEMU, status)),
            status = end_of(bridge.as_mut()) => return Err(ended_with("vhost-device-vsock", status)),
        };
        let boot_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Answered { guest, process, boot_ms })
    }
}

/// Waits for the guest's first word.
async fn first_answer(
    transport: Transport,
    announcements: Option<Announcements>,
) -> Result<Guest, GuestError> {
    if let Some(announcements) = announcements {
        let announcement = announcements.next().await?;
        return Ok(Guest::announced(transport, &announcement));
    }
    // The port of the host's kernel to which agents announce themselves is one for all guests of all daemons.
    let guest = Guest::new(transport);
    loop {
        match guest.ping().await {
            Ok(_) => return Ok(guest),
            Err(GuestError::Unreachable(_) | GuestError::Closed | GuestError::Broken(_)) => {
                sleep(LISTEN_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn end_of(process: Option<&mut Ended>) -> io::Result<std::process::ExitStatus> {
    match process {
        Some(process) => process.wait().await,
        None => std::future::pending().await,
    }
}

fn ended_with(program: &'static str, status: io::Result<std::process::ExitStatus>) -> BootError {
    match status {
        Ok(status) => BootError::Ended { program, status, console: LastWords::default() },
        Err(source) => BootError::Run { program, source },
    }
}

/// Returns the small firmware that QEMU brings for this machine; `None` leaves QEMU its default, which takes half a
/// second longer under TCG.
fn firmware(qemu: &Path) -> Option<PathBuf> {
    let prefix = fs::canonicalize(qemu).ok()?.parent()?.parent()?.to_owned();
    Some(prefix.join("share/qemu/qboot.rom")).filter(|path| path.is_file())
}

/// The processes of a boot that is not finished: they are killed when the boot is given up.
#[derive(Debug, Default)]
struct Started(Vec<ProcessRef>);

impl Started {
    /// Leaves the processes to the guest.
    fn keep(mut self) {
        self.0.clear();
    }

    /// Kills the processes and waits for their end, after which files and sockets are free.
    async fn end(mut self) {
        for process in self.0.drain(..) {
            // A process that cannot be killed has ended, or the system is beyond help.
            if process.kill().is_ok() {
                drop(process.exited().await);
            }
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for process in &self.0 {
            drop(process.kill());
        }
    }
}
