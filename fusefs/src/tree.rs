//! Which nodes there are, and their names: a function of the state, and of the past of a workspace where that matters.

use pyro_core::{ExecNumber, ShellId, State, Workspace, WorkspaceId, WorkspaceKind};

use crate::escape::{escape, unescape};
use crate::history::History;
use crate::node::{LogFile, Node, ShellFile, WorkspaceFile};

/// Returns a workspace that the tree shows.
pub(crate) fn workspace(state: &State, id: WorkspaceId) -> Option<&Workspace> {
    state.workspace(id).filter(|workspace| workspace.kind == WorkspaceKind::Workspace)
}

/// Returns the workspace of a name.
pub(crate) fn named(state: &State, name: &str) -> Option<WorkspaceId> {
    let shown = |(id, workspace): (&WorkspaceId, &std::sync::Arc<Workspace>)| {
        (workspace.kind == WorkspaceKind::Workspace && workspace.name.as_deref() == Some(name)).then_some(*id)
    };
    state.workspaces.iter().find_map(shown)
}

/// Tells whether a node is there. `history` is the past of its workspace, if it belongs to one.
pub(crate) fn exists(state: &State, history: Option<&History>, node: &Node) -> bool {
    let shown = |id| workspace(state, id);
    match node {
        Node::Root | Node::Readme | Node::Events | Node::EventsFollow | Node::Environments | Node::ByName => {
            true
        }
        Node::Environment(name) | Node::Manifest(name) => {
            state.environments.keys().any(|known| known.as_str() == name)
        }
        Node::Named(name) => named(state, name).is_some(),
        Node::Workspace(id) => shown(*id).is_some(),
        Node::InWorkspace(id, WorkspaceFile::Latest) => shown(*id).is_some_and(|known| known.exec_count > 0),
        Node::InWorkspace(id, _) => shown(*id).is_some(),
        Node::Log(id, exec) => has_exec(state, *id, *exec),
        Node::InLog(id, exec, file) if file.needs_exit() => {
            let record = history.and_then(|history| history.exec(*exec));
            has_exec(state, *id, *exec) && record.is_some_and(|record| record.exit().is_some())
        }
        Node::InLog(id, exec, _) => has_exec(state, *id, *exec),
        Node::Shell(id, shell) | Node::InShell(id, shell, _) => {
            shown(*id).is_some_and(|known| known.shells.contains_key(shell))
        }
    }
}

/// Numbers of commands are dense.
fn has_exec(state: &State, id: WorkspaceId, exec: ExecNumber) -> bool {
    workspace(state, id).is_some_and(|known| (1..=known.exec_count).contains(&exec.0))
}

/// Returns the node of a name in a directory, whether it is there or not; `None` when the directory can have no such name.
pub(crate) fn child(parent: &Node, name: &str) -> Option<Node> {
    match parent {
        Node::Root => match name {
            "README" => Some(Node::Readme),
            "events.jsonl" => Some(Node::Events),
            "events.follow" => Some(Node::EventsFollow),
            "environments" => Some(Node::Environments),
            "by-name" => Some(Node::ByName),
            id => id.parse().ok().map(Node::Workspace),
        },
        Node::Environments => unescape(name).map(Node::Environment),
        Node::Environment(known) => (name == "manifest.json").then(|| Node::Manifest(known.clone())),
        Node::ByName => unescape(name).map(Node::Named),
        Node::Workspace(id) => find(&WorkspaceFile::LISTED, name).map(|file| Node::InWorkspace(*id, file)),
        Node::InWorkspace(id, WorkspaceFile::Exec) => {
            (name == "clone").then_some(Node::InWorkspace(*id, WorkspaceFile::Clone))
        }
        Node::InWorkspace(id, WorkspaceFile::Logs) if name == "latest" => {
            Some(Node::InWorkspace(*id, WorkspaceFile::Latest))
        }
        Node::InWorkspace(id, WorkspaceFile::Logs) => {
            let number: u32 = name.parse().ok()?;
            // One number has one name.
            (number.to_string() == name).then_some(Node::Log(*id, ExecNumber(number)))
        }
        Node::InWorkspace(id, WorkspaceFile::Shells) => {
            name.parse::<ShellId>().ok().map(|shell| Node::Shell(*id, shell))
        }
        Node::Log(id, exec) => find(&LogFile::ALL, name).map(|file| Node::InLog(*id, *exec, file)),
        Node::Shell(id, shell) => find(&ShellFile::ALL, name).map(|file| Node::InShell(*id, *shell, file)),
        Node::Readme
        | Node::Events
        | Node::EventsFollow
        | Node::Manifest(_)
        | Node::Named(_)
        | Node::InWorkspace(_, _)
        | Node::InLog(_, _, _)
        | Node::InShell(_, _, _) => None,
    }
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, file)| *file)
}

/// Returns what a directory lists, by name.
pub(crate) fn children(state: &State, history: Option<&History>, node: &Node) -> Vec<(String, Node)> {
    let all = match node {
        Node::Root => root(state),
        Node::Environments => state
            .environments
            .keys()
            .map(|name| (escape(name.as_str()), Node::Environment(name.as_str().to_owned())))
            .collect(),
        Node::Environment(name) => vec![("manifest.json".to_owned(), Node::Manifest(name.clone()))],
        Node::ByName => names(state),
        Node::Workspace(id) => WorkspaceFile::LISTED
            .iter()
            .map(|(name, file)| ((*name).to_owned(), Node::InWorkspace(*id, *file)))
            .collect(),
        Node::InWorkspace(id, WorkspaceFile::Exec) => {
            vec![("clone".to_owned(), Node::InWorkspace(*id, WorkspaceFile::Clone))]
        }
        Node::InWorkspace(id, WorkspaceFile::Logs) => logs(state, *id),
        Node::InWorkspace(id, WorkspaceFile::Shells) => {
            let shells = workspace(state, *id).into_iter().flat_map(|known| known.shells.keys());
            shells.map(|shell| (shell.to_string(), Node::Shell(*id, *shell))).collect()
        }
        Node::Log(id, exec) => {
            let listed = LogFile::ALL.iter().filter(|(_, file)| file.is_listed());
            listed.map(|(name, file)| ((*name).to_owned(), Node::InLog(*id, *exec, *file))).collect()
        }
        Node::Shell(id, shell) => {
            let listed = ShellFile::ALL.iter().filter(|(_, file)| file.is_listed());
            listed.map(|(name, file)| ((*name).to_owned(), Node::InShell(*id, *shell, *file))).collect()
        }
        Node::Readme
        | Node::Events
        | Node::EventsFollow
        | Node::Manifest(_)
        | Node::Named(_)
        | Node::InWorkspace(_, _)
        | Node::InLog(_, _, _)
        | Node::InShell(_, _, _) => Vec::new(),
    };
    all.into_iter().filter(|(_, node)| exists(state, history, node)).collect()
}

fn root(state: &State) -> Vec<(String, Node)> {
    let fixed = [
        ("README", Node::Readme),
        ("by-name", Node::ByName),
        ("environments", Node::Environments),
        ("events.jsonl", Node::Events),
    ];
    let fixed = fixed.into_iter().map(|(name, node)| (name.to_owned(), node));
    fixed.chain(state.workspaces.keys().map(|id| (id.to_string(), Node::Workspace(*id)))).collect()
}

fn names(state: &State) -> Vec<(String, Node)> {
    let names = state.workspaces.values().filter_map(|workspace| workspace.name.as_ref());
    names.map(|name| (escape(name), Node::Named(name.clone()))).collect()
}

fn logs(state: &State, id: WorkspaceId) -> Vec<(String, Node)> {
    let count = workspace(state, id).map_or(0, |known| known.exec_count);
    let numbers = (1..=count).map(|number| (number.to_string(), Node::Log(id, ExecNumber(number))));
    numbers.chain([("latest".to_owned(), Node::InWorkspace(id, WorkspaceFile::Latest))]).collect()
}

/// Returns the directory that a node is in and its name there; `None` for the top.
pub(crate) fn place(node: &Node) -> Option<(Node, String)> {
    let in_workspace = |id, file| Node::InWorkspace(id, file);
    let name_in = |table: &[(&str, WorkspaceFile)], file: WorkspaceFile| {
        table.iter().find(|(_, known)| *known == file).map(|(name, _)| (*name).to_owned())
    };
    match node {
        Node::Root => None,
        Node::Readme => Some((Node::Root, "README".to_owned())),
        Node::Events => Some((Node::Root, "events.jsonl".to_owned())),
        Node::EventsFollow => Some((Node::Root, "events.follow".to_owned())),
        Node::Environments => Some((Node::Root, "environments".to_owned())),
        Node::ByName => Some((Node::Root, "by-name".to_owned())),
        Node::Environment(name) => Some((Node::Environments, escape(name))),
        Node::Manifest(name) => Some((Node::Environment(name.clone()), "manifest.json".to_owned())),
        Node::Named(name) => Some((Node::ByName, escape(name))),
        Node::Workspace(id) => Some((Node::Root, id.to_string())),
        Node::InWorkspace(id, WorkspaceFile::Clone) => {
            Some((in_workspace(*id, WorkspaceFile::Exec), "clone".to_owned()))
        }
        Node::InWorkspace(id, WorkspaceFile::Latest) => {
            Some((in_workspace(*id, WorkspaceFile::Logs), "latest".to_owned()))
        }
        Node::InWorkspace(id, file) => {
            name_in(&WorkspaceFile::LISTED, *file).map(|name| (Node::Workspace(*id), name))
        }
        Node::Log(id, exec) => Some((in_workspace(*id, WorkspaceFile::Logs), exec.to_string())),
        Node::InLog(id, exec, file) => {
            let name = LogFile::ALL.iter().find(|(_, known)| known == file)?.0;
            Some((Node::Log(*id, *exec), name.to_owned()))
        }
        Node::Shell(id, shell) => Some((in_workspace(*id, WorkspaceFile::Shells), shell.to_string())),
        Node::InShell(id, shell, file) => {
            let name = ShellFile::ALL.iter().find(|(_, known)| known == file)?.0;
            Some((Node::Shell(*id, *shell), name.to_owned()))
        }
    }
}
