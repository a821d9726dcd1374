//! The tools of the contract.

use pyro_api::{
    DeleteResult, EnvListRequest, EnvObject, ExecResult, NetworkInfo, ReapResult, RunRequest, RunResult,
    ShellCloseRequest, ShellCloseResult, ShellObject, ShellOpenRequest, ShellReadRequest, ShellReadResult,
    ShellSignalRequest, ShellSignalResult, ShellWriteRequest, ShellWriteResult, SyncResult, VmCreateRequest,
    VmDeleteRequest, VmExecRequest, VmNetworkInfoRequest, VmObject, VmReapExpiredRequest, VmStartRequest,
    VmStatusRequest, VmStopRequest, WorkspaceCreateRequest, WorkspaceDeleteRequest, WorkspaceDeleteResult,
    WorkspaceExecRequest, WorkspaceLogs, WorkspaceLogsRequest, WorkspaceObject, WorkspaceStatusRequest,
    WorkspaceSyncPushRequest,
};

use crate::settings::Profile;
use crate::tool::{Effect, Tool};

/// What all tools that boot a machine take.
const MACHINE: [&str; 6] =
    ["environment", "vcpu_count", "mem_mib", "ttl_seconds", "network", "allow_host_compat"];

/// Returns the tools of a profile, in the order of the contract.
pub(crate) fn of(profile: Profile) -> Vec<Tool> {
    let tools = vms().into_iter().chain(workspaces()).chain(shells());
    tools.filter(|tool| profile.has(tool.name())).collect()
}

fn with<'a>(names: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [names, more].concat()
}

fn vms() -> Vec<Tool> {
    use Effect::{Acts, Adds, Destroys, Looks, Settles};
    let (create, run) =
        (with(&MACHINE, &["request_id"]), with(&MACHINE, &["command", "timeout_seconds", "request_id"]));
    let changes = ["vm_id", "request_id"];
    vec![
        Tool::new::<RunRequest, RunResult>(
            "vm_run",
            "Boots a new VM, runs one shell command in it, returns its output, and deletes the VM. For one-off commands; \
             use workspace_create for work that keeps files.",
            Acts,
            &run,
        ),
        Tool::new::<EnvListRequest, Vec<EnvObject>>(
            "vm_list_environments",
            "Lists the environments that VMs and workspaces can boot, such as debian:12.",
            Looks,
            &[],
        ),
        Tool::new::<VmCreateRequest, VmObject>(
            "vm_create",
            "Creates a VM without booting it. vm_start boots it, vm_exec runs one command in it and deletes it.",
            Adds,
            &create,
        ),
        Tool::new::<VmStartRequest, VmObject>(
            "vm_start",
            "Boots a VM that vm_create made.",
            Settles,
            &changes,
        ),
        Tool::new::<VmExecRequest, RunResult>(
            "vm_exec",
            "Runs one shell command in a started VM, returns its output, and deletes the VM.",
            Acts,
            &["vm_id", "command", "timeout_seconds", "request_id"],
        ),
        Tool::new::<VmStopRequest, VmObject>("vm_stop", "Stops a VM.", Settles, &changes),
        Tool::new::<VmDeleteRequest, DeleteResult>(
            "vm_delete",
            "Deletes a VM, running or not.",
            Destroys,
            &changes,
        ),
        Tool::new::<VmStatusRequest, VmObject>("vm_status", "Tells what a VM is doing.", Looks, &["vm_id"]),
        Tool::new::<VmNetworkInfoRequest, NetworkInfo>(
            "vm_network_info",
            "Tells whether and how a VM is connected to a network.",
            Looks,
            &["vm_id"],
        ),
        Tool::new::<VmReapExpiredRequest, ReapResult>(
            "vm_reap_expired",
            "Deletes VMs and workspaces whose time to live is over. It happens by itself as well.",
            Destroys,
            &["request_id"],
        ),
    ]
}

fn workspaces() -> Vec<Tool> {
    use Effect::{Acts, Adds, Destroys, Looks};
    vec![
        Tool::new::<WorkspaceCreateRequest, WorkspaceObject>(
            "workspace_create",
            "Creates and boots a workspace: a disposable Linux machine whose files in /workspace stay between commands. \
             seed_path fills it with a directory or archive of this host.",
            Adds,
            &with(&MACHINE, &["seed_path", "request_id"]),
        ),
        Tool::new::<WorkspaceSyncPushRequest, SyncResult>(
            "workspace_sync_push",
            "Copies a directory or archive of this host into a started workspace, all of it or nothing.",
            Acts,
            &["workspace_id", "source_path", "dest", "request_id"],
        ),
        Tool::new::<WorkspaceExecRequest, ExecResult>(
            "workspace_exec",
            "Runs a shell command in /workspace of a started workspace and returns its output and exit code. What it \
             changes stays. Several may run at the same time.",
            Acts,
            &["workspace_id", "command", "timeout_seconds", "request_id"],
        ),
        Tool::new::<WorkspaceStatusRequest, WorkspaceObject>(
            "workspace_status",
            "Tells what a workspace is doing, and what its last command was.",
            Looks,
            &["workspace_id"],
        ),
        Tool::new::<WorkspaceLogsRequest, WorkspaceLogs>(
            "workspace_logs",
            "Returns all commands that ended in a workspace, with their output.",
            Looks,
            &["workspace_id"],
        ),
        Tool::new::<WorkspaceDeleteRequest, WorkspaceDeleteResult>(
            "workspace_delete",
            "Deletes a workspace with all of its files. The record of what it did stays in the event log.",
            Destroys,
            &["workspace_id", "request_id"],
        ),
    ]
}

fn shells() -> Vec<Tool> {
    use Effect::{Acts, Adds, Destroys, Looks};
    vec![
        Tool::new::<ShellOpenRequest, ShellObject>(
            "shell_open",
            "Opens a terminal with a shell in a started workspace, for programs that talk back. For single commands \
             workspace_exec is better.",
            Adds,
            &["workspace_id", "cwd", "cols", "rows", "request_id"],
        ),
        Tool::new::<ShellReadRequest, ShellReadResult>(
            "shell_read",
            "Returns what a shell printed from cursor on. Pass next_cursor of the answer to the next call.",
            Looks,
            &["workspace_id", "shell_id", "cursor", "max_chars"],
        ),
        Tool::new::<ShellWriteRequest, ShellWriteResult>(
            "shell_write",
            "Types into a shell. Returns at once; shell_read gives what it printed then.",
            Acts,
            &["workspace_id", "shell_id", "input", "append_newline", "request_id"],
        ),
        Tool::new::<ShellSignalRequest, ShellSignalResult>(
            "shell_signal",
            "Sends a signal to what runs in the foreground of a shell; INT is what Ctrl-C sends.",
            Acts,
            &["workspace_id", "shell_id", "signal_name", "request_id"],
        ),
        Tool::new::<ShellCloseRequest, ShellCloseResult>(
            "shell_close",
            "Ends a shell with all that runs in it, and forgets what it printed.",
            Destroys,
            &["workspace_id", "shell_id", "request_id"],
        ),
    ]
}
