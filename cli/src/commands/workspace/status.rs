//! `pyro workspace status`, and the lines about a workspace that other commands print as well.

use std::fmt::Write as _;
use std::process::ExitCode;

use pyro_api::{WorkspaceObject, WorkspaceStatusRequest};

use crate::commands::print;
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;

pub(crate) fn execute(request: WorkspaceStatusRequest, format: Format) -> Result<ExitCode, Failure> {
    print(&Session::starting()?.call(request)?, format, object_text)
}

pub(super) fn object_text(object: &WorkspaceObject) -> String {
    let mut text = String::new();
    push(&mut text, "Workspace ID", &object.workspace_id);
    if let Some(name) = &object.name {
        push(&mut text, "Name", name);
    }
    if !object.labels.is_empty() {
        let labels: Vec<_> = object.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        push(&mut text, "Labels", &labels.join(", "));
    }
    push(&mut text, "Environment", &object.environment);
    push(&mut text, "State", &object.state);
    if let Some(reason) = object.metadata.get("stop_reason").or_else(|| object.metadata.get("boot_failure")) {
        push(&mut text, "Stopped because", reason);
    }
    push(&mut text, "Workspace", &object.workspace_path);
    let seed = &object.workspace_seed;
    match &seed.seed_path {
        Some(path) => push(&mut text, "Workspace seed", &format!("{} from {path}", seed.mode)),
        None => push(&mut text, "Workspace seed", &seed.mode),
    }
    push(&mut text, "Execution mode", &object.execution_mode);
    push(&mut text, "Resources", &format!("{} vCPU / {} MiB", object.vcpu_count, object.mem_mib));
    push(&mut text, "Command count", &object.command_count.to_string());
    if let Some(last) = &object.last_command {
        push(&mut text, "Last command", &format!("{} (exit_code={})", last.command, last.exit_code));
    }
    text
}

fn push(text: &mut String, label: &str, value: &str) {
    writeln!(text, "{label}: {}", sanitize::line(value)).expect("a string takes everything");
}
