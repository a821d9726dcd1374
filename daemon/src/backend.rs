//! The choice of a backend, and one way to talk to all of them.

use std::io;
use std::time::Duration;

use pyro_core::{
    Accelerator, Backend, BackendProbed, Command, ProbeVerdict, Process, State, WorkspaceId, WorkspaceSpec,
    WorkspaceStarted,
};
use pyro_runtime::environment::{Installed, NotInstalled};
use pyro_runtime::guest::Guest;
use pyro_runtime::host::Tool;
use pyro_runtime::process::ProcessRef;
use pyro_runtime::qemu::{self, BootSpec, Images, Machine, VmAccelerator};
use pyro_runtime::sandbox::{self, Sandbox, SandboxSpec};

use crate::clock;
use crate::config::{AcceleratorChoice, BackendChoice};
use crate::context::Context;
use crate::sessions::chain;

/// Time that a guest has to end its commands and to make its file systems clean when it is stopped.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What to tell those who could have a guest if they accepted a weaker border.
const OPT_IN: &str = "--allow-host-compat accepts namespaces of the host's kernel instead";

/// A guest that is booted or adopted.
pub(crate) struct Running {
    kind: Kind,
    accelerator: Accelerator,
    boot_ms: u64,
}

enum Kind {
    Qemu(Machine),
    Sandbox(Sandbox),
}

/// Why there is no guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    #[error("{}", chain(.0))]
    NotInstalled(#[from] NotInstalled),
    #[error("the host sandbox is configured as the only backend, and it is used only on request; {OPT_IN}")]
    SandboxNotAllowed,
    #[error("no virtual machine can be booted: {reason}; {OPT_IN}")]
    NoVm { reason: String },
    #[error("failed to boot a virtual machine: {reason}; {OPT_IN}")]
    Vm { reason: String },
    #[error("failed to start the host sandbox: {reason}")]
    Sandbox { reason: String },
    #[error("the guest is gone: {reason}")]
    Gone { reason: String },
    #[error("failed to prepare the boot: {0}")]
    Io(#[from] io::Error),
}

/// What is left of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remains {
    /// Its files; every process has been seen to end.
    Files,
    /// Perhaps processes as well.
    Unknown,
}

/// Which backend a guest gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Vm(VmAccelerator),
    Sandbox,
}

impl Running {
    pub(crate) const fn backend(&self) -> Backend {
        match self.kind {
            Kind::Qemu(_) => Backend::Qemu,
            Kind::Sandbox(_) => Backend::HostSandbox,
        }
    }

    pub(crate) const fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    pub(crate) const fn boot_ms(&self) -> u64 {
        self.boot_ms
    }

    pub(crate) const fn guest(&self) -> &Guest {
        match &self.kind {
            Kind::Qemu(machine) => machine.guest(),
            Kind::Sandbox(sandbox) => sandbox.guest(),
        }
    }

    pub(crate) const fn process(&self) -> Process {
        self.process_ref().process()
    }

    const fn process_ref(&self) -> &ProcessRef {
        match &self.kind {
            Kind::Qemu(machine) => machine.process(),
            Kind::Sandbox(sandbox) => sandbox.process(),
        }
    }

    /// Returns when the guest is gone, with what was seen of its end.
    pub(crate) async fn gone(&self) -> String {
        if let Err(error) = self.process_ref().exited().await {
            return format!("its process cannot be watched: {error}");
        }
        let console = match &self.kind {
            Kind::Qemu(machine) => machine.console(),
            Kind::Sandbox(_) => None,
        };
        let last =
            console.as_deref().and_then(|text| text.lines().rev().find(|line| !line.trim().is_empty()));
        last.map_or_else(
            || "its process ended".to_owned(),
            |line| format!("its process ended; its console said: {line}"),
        )
    }

    /// Stops the guest so that its disk is clean.
    pub(crate) async fn stop(&self) -> Remains {
        self.end(STOP_GRACE).await
    }

    /// Ends the guest at once; its disk is not needed any more.
    pub(crate) async fn kill(&self) -> Remains {
        self.end(Duration::ZERO).await
    }

    async fn end(&self, grace: Duration) -> Remains {
        let ended = match &self.kind {
            Kind::Qemu(machine) => machine.stop(grace).await.map(drop),
            Kind::Sandbox(sandbox) => sandbox.stop(grace).await.map(drop),
        };
        match ended {
            Ok(()) => Remains::Files,
            Err(error) => {
                tracing::error!(%error, "failed to end a guest");
                Remains::Unknown
            }
        }
    }
}

/// Boots the guest of a workspace. Dropping the future ends what was started.
pub(crate) async fn boot(
    context: &Context,
    workspace: WorkspaceId,
    spec: &WorkspaceSpec,
) -> Result<Running, BackendError> {
    let name = spec.environment.clone();
    let environments = context.environments.clone();
    let installed = blocking(move || environments.installed(&name)).await?;
    match choose(context, spec, &installed).await? {
        Choice::Vm(accelerator) => boot_vm(context, workspace, spec, &installed, accelerator).await,
        Choice::Sandbox => boot_sandbox(context, workspace, spec, &installed).await,
    }
}

/// Chooses by configuration, by what was seen to work on this host and by what was opted into.
async fn choose(
    context: &Context,
    spec: &WorkspaceSpec,
    installed: &Installed,
) -> Result<Choice, BackendError> {
    match context.config.backend {
        BackendChoice::HostSandbox if spec.allow_host_compat => return Ok(Choice::Sandbox),
        BackendChoice::HostSandbox => return Err(BackendError::SandboxNotAllowed),
        BackendChoice::Auto | BackendChoice::Qemu => {}
    }
    let missing = vm_tools_missing(context);
    let try_kvm = context.config.accelerator == AcceleratorChoice::Auto && missing.is_none();
    // Accepting the sandbox does not mean wanting it, least of all where it lacks the network.
    let accepts_sandbox = spec.allow_host_compat
        && context.config.backend == BackendChoice::Auto
        && !(spec.network && sandbox_network_missing(context).is_some());
    if try_kvm {
        let fingerprint = qemu::fingerprint(&context.tools, &installed.manifest().kernel_version)?;
        let works = match known_kvm(context, &fingerprint) {
            Some(works) => works,
            // Whoever accepts the sandbox does not want to wait for a probe.
            None => !accepts_sandbox && probe_kvm(context, installed, fingerprint).await?,
        };
        if works {
            return Ok(Choice::Vm(VmAccelerator::Kvm));
        }
    }
    if accepts_sandbox {
        return Ok(Choice::Sandbox);
    }
    match missing {
        None => Ok(Choice::Vm(VmAccelerator::Tcg)),
        Some(reason) => Err(BackendError::NoVm { reason }),
    }
}

/// Returns what a virtual machine lacks on this host; `None` when it lacks nothing.
pub(crate) fn vm_tools_missing(context: &Context) -> Option<String> {
    let needed: &[Tool] = if std::path::Path::new("/dev/vhost-vsock").exists() {
        &[Tool::Qemu, Tool::MkfsExt4]
    } else {
        &[Tool::Qemu, Tool::MkfsExt4, Tool::VhostDeviceVsock]
    };
    needed.iter().find_map(|tool| context.tools.require(*tool).err()).map(|missing| chain(&missing))
}

/// Returns what the network of a host sandbox lacks on this host; `None` when it lacks nothing.
pub(crate) fn sandbox_network_missing(context: &Context) -> Option<String> {
    sandbox::network_obstacle(&context.tools).map(|obstacle| chain(&obstacle))
}

/// Returns why no guest of a workspace can have the network that it wants; `None` when it wants none or one can.
pub(crate) fn network_obstacle(context: &Context, spec: &WorkspaceSpec) -> Option<String> {
    if !spec.network {
        return None;
    }
    match context.config.backend {
        BackendChoice::HostSandbox => sandbox_network_missing(context),
        BackendChoice::Qemu => vm_tools_missing(context),
        BackendChoice::Auto => {
            let vm = vm_tools_missing(context)?;
            if !spec.allow_host_compat {
                return Some(format!("no virtual machine can be booted: {vm}; {OPT_IN}"));
            }
            let sandbox = sandbox_network_missing(context)?;
            Some(format!(
                "no virtual machine can be booted: {vm}; the host sandbox has no network: {sandbox}"
            ))
        }
    }
}

/// Returns the verdict on KVM that still holds; `None` when none was given or something has changed since.
pub(crate) fn kvm_verdict<'a>(state: &'a State, fingerprint: &str) -> Option<&'a ProbeVerdict> {
    let probed = state.probes.get(&(Backend::Qemu, Accelerator::Kvm))?;
    (probed.fingerprint == fingerprint).then_some(&probed.verdict)
}

fn known_kvm(context: &Context, fingerprint: &str) -> Option<bool> {
    let state = context.engine.state();
    kvm_verdict(&state, fingerprint).map(|verdict| matches!(verdict, ProbeVerdict::Works { .. }))
}

async fn probe_kvm(
    context: &Context,
    installed: &Installed,
    fingerprint: String,
) -> Result<bool, BackendError> {
    let _one_at_a_time = context.probing.lock().await;
    if let Some(works) = known_kvm(context, &fingerprint) {
        return Ok(works);
    }
    let images = images(context, installed).await?;
    let dir = context.home.workspaces().join("probe");
    let verdict = qemu::probe_kvm(images, context.programs.pyro.clone(), context.tools.clone(), dir).await;
    let works = matches!(verdict, ProbeVerdict::Works { .. });
    let fact = BackendProbed { backend: Backend::Qemu, accelerator: Accelerator::Kvm, fingerprint, verdict };
    context.record_quietly(Command::RecordProbe(fact)).await;
    Ok(works)
}

async fn images(context: &Context, installed: &Installed) -> io::Result<Images> {
    let (installed, agent) = (installed.clone(), context.programs.agent.clone());
    blocking(move || Images::of(&installed, &agent)).await
}

async fn boot_vm(
    context: &Context,
    workspace: WorkspaceId,
    spec: &WorkspaceSpec,
    installed: &Installed,
    accelerator: VmAccelerator,
) -> Result<Running, BackendError> {
    let spec = BootSpec {
        workspace,
        dir: context.workspace_dir(workspace),
        images: images(context, installed).await?,
        vcpu_count: spec.vcpu_count,
        mem_mib: spec.mem_mib,
        disk_mib: context.config.disk_mib.0,
        network: spec.network,
        accelerator,
        deadline: accelerator.boot_deadline(),
        program: context.programs.pyro.clone(),
        tools: context.tools.clone(),
    };
    let booted =
        Box::pin(qemu::boot(&spec)).await.map_err(|error| BackendError::Vm { reason: chain(&error) })?;
    set_clock(booted.machine.guest()).await;
    Ok(Running { kind: Kind::Qemu(booted.machine), accelerator: accelerator.into(), boot_ms: booted.boot_ms })
}

/// The guest's clock begins at an arbitrary time; a command shall see the right one.
async fn set_clock(guest: &Guest) {
    if let Err(error) = guest.set_clock(clock::now().0).await {
        tracing::warn!(%error, "failed to set the guest's clock");
    }
}

async fn boot_sandbox(
    context: &Context,
    workspace: WorkspaceId,
    spec: &WorkspaceSpec,
    installed: &Installed,
) -> Result<Running, BackendError> {
    let spec = SandboxSpec {
        workspace,
        dir: context.workspace_dir(workspace),
        rootfs: installed.rootfs_tree(),
        agent: context.programs.agent.clone(),
        program: context.programs.pyro.clone(),
        network: spec.network,
        tools: context.tools.clone(),
    };
    let booted =
        sandbox::boot(&spec).await.map_err(|error| BackendError::Sandbox { reason: chain(&error) })?;
    Ok(Running {
        kind: Kind::Sandbox(booted.sandbox),
        accelerator: Accelerator::Native,
        boot_ms: booted.boot_ms,
    })
}

/// Takes over the guest that an earlier daemon booted.
pub(crate) async fn adopt(
    context: &Context,
    workspace: WorkspaceId,
    fact: &WorkspaceStarted,
) -> Result<Running, BackendError> {
    if context.host_rebooted {
        return Err(BackendError::Gone { reason: "the host was booted anew".to_owned() });
    }
    let dir = context.workspace_dir(workspace);
    let gone = |error: &dyn std::error::Error| BackendError::Gone { reason: chain(error) };
    let kind = match fact.backend {
        Backend::Qemu => {
            Kind::Qemu(qemu::adopt(workspace, &dir, fact.process).await.map_err(|error| gone(&error))?)
        }
        Backend::HostSandbox => {
            Kind::Sandbox(sandbox::adopt(&dir, fact.process).await.map_err(|error| gone(&error))?)
        }
        Backend::Firecracker => {
            return Err(BackendError::Gone { reason: "this version cannot drive Firecracker".to_owned() });
        }
    };
    Ok(Running { kind, accelerator: fact.accelerator, boot_ms: fact.boot_ms })
}

/// Ends every process that is left of a workspace's guest; its disk stays.
pub(crate) async fn clear(context: &Context, workspace: WorkspaceId) {
    // The first process of a sandbox is in its own record; all others show the directory.
    if let Err(error) = sandbox::clear(&context.workspace_dir(workspace)).await {
        tracing::error!(%workspace, %error, "failed to end what is left of a guest");
    }
}

/// Removes everything that is left of a workspace: processes, disk, directory.
pub(crate) async fn destroy(context: &Context, workspace: WorkspaceId, remains: Remains) -> io::Result<()> {
    let dir = context.workspace_dir(workspace);
    // The sandbox's way of removing ends every process of the directory and removes files of any mode.
    match remains {
        // To look for processes takes longer than all the rest, the more the busier the host is.
        Remains::Files => sandbox::remove(&dir).await,
        Remains::Unknown => sandbox::destroy(&dir).await,
    }
}

/// Ends all guests at once, whatever is left of their directories.
pub(crate) async fn end_all(context: &Context) {
    for (workspace, state) in &context.engine.state().workspaces {
        let Some(guest) = state.guest.as_ref().filter(|_| state.phase.has_guest()) else { continue };
        let ended =
            ProcessRef::find(guest.process).and_then(|found| found.map_or(Ok(()), |process| process.kill()));
        if let Err(error) = ended {
            tracing::error!(%workspace, %error, "failed to end a guest");
        }
    }
    if let Err(error) = pyro_runtime::process::kill_all(&context.home.workspaces()).await {
        tracing::error!(%error, "failed to end the processes of guests");
    }
}

/// Ends and removes what is left in the directories of workspaces and outputs and belongs to none: a probe that a daemon did not
/// finish, a workspace whose deletion was recorded and whose directory came back with a power cut.
pub(crate) async fn sweep(context: &Context) -> io::Result<()> {
    let state = context.engine.state();
    for entry in std::fs::read_dir(context.home.workspaces())? {
        let entry = entry?;
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if id.is_none_or(|id| state.workspace(id).is_none()) {
            tracing::info!(directory = %entry.path().display(), "removing what belongs to no workspace");
            sandbox::destroy(&entry.path()).await?;
        }
    }
    for entry in std::fs::read_dir(context.home.outputs())? {
        let id = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(id) = id.filter(|id| state.workspace(*id).is_none()) {
            context.outputs.remove_workspace(id).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("work on files does not panic")
}
