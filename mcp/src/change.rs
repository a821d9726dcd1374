//! What changes, and which resources that concerns.

use std::collections::HashSet;

use pyro_api::LogEvent;

use crate::uri::Address;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The log has another event.
    Event {
        /// The workspace that it is about; `None` for VMs and the whole host.
        workspace: Option<String>,
        /// The number of the command that it is about.
        exec: Option<u64>,
        /// The shell that it is about.
        shell: Option<String>,
        /// Whether a workspace has come or gone.
        lists: bool,
    },
    /// A shell printed something.
    Printed { workspace: String, shell: String },
    /// Some changes were missed.
    Unknown,
}

impl Change {
    /// Tells whether a resource may be another one than before.
    pub(crate) fn concerns(&self, address: &Address) -> bool {
        match (self, address) {
            (Self::Unknown, _) | (Self::Event { .. }, Address::Log) => true,
            (Self::Event { workspace, .. }, Address::Workspaces) => workspace.is_some(),
            (Self::Event { workspace, .. }, Address::Workspace(id)) => workspace.as_ref() == Some(id),
            (Self::Event { workspace, exec, .. }, Address::Output { workspace: id, number, .. }) => {
                workspace.as_ref() == Some(id) && *exec == Some(u64::from(*number))
            }
            (Self::Event { workspace, shell, .. }, Address::Screen { workspace: id, shell: own }) => {
                workspace.as_ref() == Some(id) && shell.as_ref() == Some(own)
            }
            (Self::Printed { workspace, shell }, Address::Screen { workspace: id, shell: own }) => {
                workspace == id && shell == own
            }
            (Self::Printed { .. }, _) => false,
        }
    }

    /// Tells whether other resources are listed than before.
    pub(crate) const fn lists(&self) -> bool {
        match self {
            Self::Event { lists, .. } => *lists,
            Self::Unknown => true,
            Self::Printed { .. } => false,
        }
    }
}

/// Makes changes of events.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The VMs that were seen coming and not going. A client is not told of them, and only their first event says what
    /// they are.
    vms: HashSet<String>,
}

impl Changes {
    /// Returns what the next event of the log changes.
    pub(crate) fn of(&mut self, event: LogEvent) -> Change {
        let LogEvent { kind, workspace_id, data, .. } = event;
        let is_vm = match (kind.as_str(), &workspace_id) {
            ("workspace_created", Some(id)) if data["type"] == "vm" => {
                self.vms.insert(id.clone());
                true
            }
            ("workspace_deleted", Some(id)) => self.vms.remove(id),
            (_, Some(id)) => self.vms.contains(id),
            (_, None) => false,
        };
        Change::Event {
            workspace: workspace_id.filter(|_| !is_vm),
            exec: data["exec"].as_u64(),
            shell: data["shell_id"].as_str().map(str::to_owned),
            lists: !is_vm && matches!(kind.as_str(), "workspace_created" | "workspace_deleted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use pyro_api::{EventActor, Face};
    use serde_json::{Value, json};

    use super::*;
    use crate::uri::Uri;

    fn event(kind: &str, workspace: Option<&str>, data: Value) -> LogEvent {
        let actor = EventActor { face: Face::Daemon, uid: 0, pid: 1, client: "test".to_owned() };
        let (at, kind) = (String::new(), kind.to_owned());
        let workspace_id = workspace.map(str::to_owned);
        LogEvent { seq: 1, at, actor, kind, workspace_id, request_id: None, data, version: None, hash: None }
    }

    /// Catches a change that its resource does not hear of, and one that others hear of.
    #[test]
    fn changes_concern_what_they_are_about() {
        let all = [
            "pyro://workspaces",
            "pyro://workspaces/a",
            "pyro://workspaces/b",
            "pyro://workspaces/a/logs/1/stdout",
            "pyro://workspaces/a/logs/2/stderr",
            "pyro://workspaces/a/shells/s/screen",
            "pyro://workspaces/a/shells/t/screen",
            "pyro://log",
        ];
        let mut changes = Changes::default();
        let printed = Change::Printed { workspace: "a".to_owned(), shell: "t".to_owned() };
        for (change, expected, lists) in [
            (changes.of(event("daemon_started", None, json!({}))), vec![7], false),
            (
                changes.of(event("workspace_created", Some("a"), json!({"type": "workspace"}))),
                vec![0, 1, 7],
                true,
            ),
            (changes.of(event("workspace_created", Some("v"), json!({"type": "vm"}))), vec![7], false),
            (changes.of(event("exec_exited", Some("v"), json!({"exec": 1}))), vec![7], false),
            (changes.of(event("workspace_deleted", Some("v"), json!({}))), vec![7], false),
            (changes.of(event("exec_exited", Some("a"), json!({"exec": 1}))), vec![0, 1, 3, 7], false),
            (changes.of(event("shell_exited", Some("a"), json!({"shell_id": "s"}))), vec![0, 1, 5, 7], false),
            (changes.of(event("workspace_deleted", Some("b"), json!({}))), vec![0, 2, 7], true),
            (printed, vec![6], false),
            (Change::Unknown, (0..all.len()).collect(), true),
        ] {
            let concerned = |place: &usize| change.concerns(&Uri::parse(all[*place]).unwrap().address);
            let concerned: Vec<_> = (0..all.len()).filter(concerned).collect();
            assert_eq!((concerned, change.lists()), (expected, lists), "{change:?}");
        }
        assert!(changes.vms.is_empty());
    }
}
