//! Events as JSON, for `pyro log`.

use pyro_core::{
    AccessRefused, Cause, DropPolicy, Envelope, Event, Evidence, ExitStatus, Limits, LogCompacted, Operation,
    OperationResolved, OutputDropped, ProbeVerdict, StopReason, StreamSummary, SyncChanges, SyncPurpose,
    WorkspaceKind,
};
use serde_json::{Value, json};

use crate::clock;

/// Returns what there is to tell about an event besides its position, time, origin and kind.
///
/// A `match` per kind rather than a serialization of the structs: the names here are a contract, those there are not.
pub(crate) fn data(event: &Event) -> Value {
    match event {
        Event::DaemonStarted(event) => json!({
            "pid": event.process.pid, "version": event.version, "host_boot_id": event.host_boot_id,
        }),
        Event::DaemonStopped(event) => json!({ "reason": event.reason }),
        Event::LimitsChanged(event) => limits(event.limits),
        Event::ClockObserved(event) => {
            json!({ "host_boot_id": event.host_boot_id, "offset_us": event.offset_us })
        }
        Event::Mounted(event) => json!({ "path": event.path, "allow_other": event.allow_other }),
        Event::Unmounted(event) => json!({ "path": event.path }),
        Event::AccessRefused(event) => refused(event),
        Event::LogCompacted(event) => compacted(event),
        Event::BackendProbed(event) => json!({
            "backend": event.backend.as_str(), "accelerator": event.accelerator.as_str(),
            "fingerprint": event.fingerprint, "verdict": verdict(&event.verdict),
        }),
        Event::EnvironmentInstalled(event) => json!({
            "environment": event.name.as_str(), "version": event.version, "source": event.source,
            "manifest_digest": event.manifest_digest,
        }),
        Event::EnvironmentInstallFailed(event) => json!({
            "environment": event.name.as_str(), "version": event.version, "reason": event.reason,
        }),
        Event::EnvironmentRemoved(event) => json!({ "directory": event.directory }),
        Event::OperationResolved(event) => resolved(event),
        Event::RequestMet(event) => json!({ "wish": event.wish }),
        Event::Unknown(event) => {
            json!({ "kind": event.kind, "version": event.version, "len_bytes": event.payload.len() })
        }
        Event::WorkspaceCreated(_)
        | Event::WorkspaceLabeled(_)
        | Event::WorkspaceStarting(_)
        | Event::WorkspaceStarted(_)
        | Event::WorkspaceStartFailed(_)
        | Event::WorkspaceStopping(_)
        | Event::WorkspaceStopped(_)
        | Event::WorkspaceDeleting(_)
        | Event::WorkspaceDeleted(_) => workspace_data(event),
        Event::ExecRequested(_)
        | Event::ExecStarted(_)
        | Event::ExecExited(_)
        | Event::ExecFailed(_)
        | Event::ExecLost(_)
        | Event::ExecCancelRequested(_) => exec_data(event),
        Event::ShellRequested(_)
        | Event::ShellStarted(_)
        | Event::ShellFailed(_)
        | Event::ShellExited(_)
        | Event::ShellLost(_)
        | Event::ShellInput(_)
        | Event::ShellResized(_)
        | Event::ShellSignaled(_)
        | Event::ShellClosing(_)
        | Event::ShellClosed(_) => shell_data(event),
        Event::SyncRequested(_)
        | Event::SyncFinished(_)
        | Event::SyncFailed(_)
        | Event::SyncLost(_)
        | Event::SyncCancelRequested(_) => sync_data(event),
        Event::OutputDropped(event) => dropped_data(event),
    }
}

fn workspace_data(event: &Event) -> Value {
    match event {
        Event::WorkspaceCreated(event) => json!({
            "type": match event.kind { WorkspaceKind::Vm => "vm", WorkspaceKind::Workspace => "workspace" },
            "environment": event.spec.environment.as_str(), "environment_version": event.spec.environment_version,
            "vcpu_count": event.spec.vcpu_count, "mem_mib": event.spec.mem_mib, "ttl_seconds": event.spec.ttl_seconds,
            "network": event.spec.network, "allow_host_compat": event.spec.allow_host_compat,
        }),
        Event::WorkspaceLabeled(event) => json!({ "name": event.name, "labels": event.labels }),
        Event::WorkspaceStarting(event) => json!({ "boot": event.boot }),
        Event::WorkspaceStarted(event) => json!({
            "backend": event.backend.as_str(), "accelerator": event.accelerator.as_str(),
            "execution_mode": event.backend.execution_mode().as_str(),
            "pid": event.process.pid, "boot_ms": event.boot_ms,
        }),
        Event::WorkspaceStartFailed(event) => json!({ "reason": event.reason }),
        Event::WorkspaceStopped(event) => match &event.reason {
            StopReason::Requested => json!({ "reason": "requested" }),
            StopReason::GuestDied(text) => json!({ "reason": "guest_died", "detail": text }),
        },
        Event::WorkspaceDeleting(event) => json!({ "reason": event.reason.as_str() }),
        Event::WorkspaceDeleted(event) => json!({ "reason": event.reason.as_str() }),
        _ => json!({}),
    }
}

fn exec_data(event: &Event) -> Value {
    match event {
        Event::ExecRequested(event) => json!({
            "exec": event.exec.0, "command": event.command, "cwd": event.cwd, "timeout_ms": event.timeout_ms,
        }),
        Event::ExecStarted(event) => json!({ "exec": event.exec.0, "guest_pid": event.guest_pid }),
        Event::ExecExited(event) => json!({
            "exec": event.exec.0, "exit_code": event.status.exit_code(), "status": status(event.status),
            "duration_ms": event.duration_ms, "stdout": stream(&event.stdout), "stderr": stream(&event.stderr),
        }),
        Event::ExecFailed(event) => json!({ "exec": event.exec.0, "reason": event.reason }),
        Event::ExecLost(event) => json!({
            "exec": event.exec.0, "reason": event.reason, "stdout": event.stdout.as_ref().map(stream),
            "stderr": event.stderr.as_ref().map(stream),
        }),
        Event::ExecCancelRequested(event) => json!({ "exec": event.exec.0 }),
        _ => json!({}),
    }
}

fn shell_data(event: &Event) -> Value {
    match event {
        Event::ShellRequested(event) => json!({
            "shell_id": event.shell.to_string(), "cwd": event.cwd,
            "cols": event.size.columns, "rows": event.size.rows,
        }),
        Event::ShellStarted(event) => {
            json!({ "shell_id": event.shell.to_string(), "guest_pid": event.guest_pid })
        }
        Event::ShellFailed(event) => json!({ "shell_id": event.shell.to_string(), "reason": event.reason }),
        Event::ShellExited(event) => json!({
            "shell_id": event.shell.to_string(), "exit_code": event.status.exit_code(),
            "status": status(event.status), "output": stream(&event.output),
        }),
        Event::ShellLost(event) => json!({
            "shell_id": event.shell.to_string(), "reason": event.reason,
            "output": event.output.as_ref().map(stream),
        }),
        Event::ShellInput(event) => json!({
            "shell_id": event.shell.to_string(), "offset": event.offset, "len_bytes": event.data.len(),
            "input": String::from_utf8_lossy(&event.data),
        }),
        Event::ShellResized(event) => json!({
            "shell_id": event.shell.to_string(), "cols": event.size.columns, "rows": event.size.rows,
        }),
        Event::ShellSignaled(event) => {
            json!({ "shell_id": event.shell.to_string(), "signal": event.signal.as_str() })
        }
        Event::ShellClosing(event) => json!({ "shell_id": event.shell.to_string() }),
        Event::ShellClosed(event) => json!({ "shell_id": event.shell.to_string() }),
        _ => json!({}),
    }
}

fn sync_data(event: &Event) -> Value {
    match event {
        Event::SyncRequested(event) => json!({
            "sync": event.sync.0,
            "purpose": match event.purpose { SyncPurpose::Seed => "seed", SyncPurpose::Push => "push" },
            "mode": event.source.kind.as_str(), "source_path": event.source.path,
            "destination": event.destination, "changes": event.changes.as_ref().map(changes),
        }),
        Event::SyncFinished(event) => json!({
            "sync": event.sync.0, "entry_count": event.entry_count, "bytes_written": event.bytes_written,
            "blake3": event.digest.as_ref().map(hex),
        }),
        Event::SyncFailed(event) => {
            json!({ "sync": event.sync.0, "reason": event.reason, "refused": event.refused })
        }
        Event::SyncLost(event) => json!({ "sync": event.sync.0, "reason": event.reason }),
        Event::SyncCancelRequested(event) => json!({ "sync": event.sync.0 }),
        _ => json!({}),
    }
}

fn resolved(event: &OperationResolved) -> Value {
    let mut told = match event.operation {
        Operation::Exec(exec) => json!({ "exec": exec.0 }),
        Operation::Shell(shell) => json!({ "shell_id": shell.to_string() }),
        Operation::Sync(sync) => json!({ "sync": sync.0 }),
    };
    told["evidence"] = match &event.evidence {
        Evidence::Unknown => json!({ "journal": "unknown" }),
        Evidence::Running { stdout_len, stderr_len } => {
            json!({ "journal": "running", "stdout_len": stdout_len, "stderr_len": stderr_len })
        }
        Evidence::Exited { status: how } => json!({ "journal": "exited", "status": status(*how) }),
        Evidence::InPlace => json!({ "journal": "in_place" }),
        Evidence::Failed { reason } => json!({ "journal": "failed", "reason": reason }),
        Evidence::Silent { seen } => json!({ "journal": "silent", "seen": seen }),
        Evidence::GuestGone { seen } => json!({ "journal": "guest_gone", "seen": seen }),
    };
    told
}

fn dropped_data(event: &OutputDropped) -> Value {
    let (policy, bytes_max) = match event.policy {
        DropPolicy::Stream { bytes_max } => ("stream", bytes_max),
        DropPolicy::Workspace { bytes_max } => ("workspace", bytes_max),
    };
    json!({
        "stream": event.stream.to_string(),
        "from": event.from,
        "to": event.to,
        "digest": hex(&event.digest),
        "policy": policy,
        "bytes_max": bytes_max,
    })
}

fn changes(changes: &SyncChanges) -> Value {
    let texts = |paths: &[Vec<u8>]| -> Vec<String> {
        paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    };
    json!({ "changed": texts(&changes.changed), "removed": texts(&changes.removed) })
}

fn limits(limits: Limits) -> Value {
    json!({
        "vcpu_max": limits.vcpu_max, "mem_mib_min": limits.mem_mib_min, "mem_mib_total": limits.mem_mib_total,
        "ttl_seconds_min": limits.ttl_seconds_min, "ttl_seconds_max": limits.ttl_seconds_max,
        "workspaces_max": limits.workspaces_max, "guests_max": limits.guests_max,
        "open_execs_max": limits.open_execs_max, "command_len_max": limits.command_len_max,
        "timeout_seconds_max": limits.timeout_seconds_max,
    })
}

fn refused(event: &AccessRefused) -> Value {
    json!({
        "reason": event.reason.as_str(), "peer": event.peer, "peer_uid": event.peer_uid,
        "claimed": event.claimed, "left_out": event.left_out,
    })
}

fn compacted(event: &LogCompacted) -> Value {
    json!({
        "first": event.first, "hash": hex(&event.hash), "base": hex(&event.base),
        "records": event.records, "bytes": event.bytes,
        "since": clock::rfc3339(event.since), "until": clock::rfc3339(event.until),
        "keep_days": event.policy.keep_days, "keep_mib": event.policy.keep_mib, "before": event.policy.before,
    })
}

fn verdict(verdict: &ProbeVerdict) -> Value {
    match verdict {
        ProbeVerdict::Works { boot_ms } => json!({ "works": true, "boot_ms": boot_ms }),
        ProbeVerdict::Fails { reason } => json!({ "works": false, "reason": reason }),
    }
}

fn status(status: ExitStatus) -> Value {
    match status {
        ExitStatus::Code(code) => json!({ "code": code }),
        ExitStatus::Signal(signal) => json!({ "signal": signal }),
        ExitStatus::TimedOut => json!({ "timed_out": true }),
    }
}

fn stream(summary: &StreamSummary) -> Value {
    json!({ "len_bytes": summary.len_bytes, "blake3": hex(&summary.digest) })
}

/// Returns a hash in hexadecimal.
pub(crate) fn hex(digest: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing into a `String` cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the request that led to an event, in hexadecimal; `None` when nobody asked.
pub(crate) fn request_id(envelope: &Envelope) -> Option<String> {
    match envelope.cause {
        Cause::Observation => None,
        Cause::Request(id) => Some(id.to_string()),
    }
}
