//! `tree_read`: files of the tree that mounts show, for clients without a mount.

use pyro_api::{ApiError, ErrorCode, OUTPUT_LEN_MAX, Stream, TreePart, TreeReadRequest};
use pyro_core::{WorkspaceId, WorkspaceKind};
use pyro_fusefs::{Kind, Node, View, ViewError};

use super::shell::check_range;
use super::{Failure, Session, chain};
use crate::mounts;
use crate::streams::Piece;

/// Most names that an error tells of: those of the newest commands and shells are enough to go on with.
const NAMES_MAX: usize = 10;

/// A part of a file.
struct Part {
    offset: u64,
    bytes: Vec<u8>,
    file_bytes: u64,
}

impl Session {
    pub(super) async fn tree_read(&mut self, request: TreeReadRequest) -> Result<TreePart, Failure> {
        check_range("len_bytes", request.len_bytes, 0, OUTPUT_LEN_MAX as u64)?;
        let workspace = self.find(&request.workspace_id, WorkspaceKind::Workspace)?;
        let (tree, path) = (mounts::tree(&self.context), request.path.clone());
        let len = usize::try_from(request.len_bytes).unwrap_or(OUTPUT_LEN_MAX);
        let read = tokio::task::spawn_blocking(move || part(&tree, workspace, &path, request.offset, len));
        let Part { offset, bytes, file_bytes } =
            read.await.expect("reading the tree does not panic and is not aborted")?;
        let len_bytes = bytes.len() as u64;
        self.peer.piece(Stream::Stdout, Piece::Bytes(&bytes)).await?;
        Ok(TreePart {
            workspace_id: workspace.to_string(),
            path: request.path,
            offset,
            len_bytes,
            file_bytes,
        })
    }
}

fn part(
    tree: &View,
    workspace: WorkspaceId,
    path: &str,
    offset: u64,
    len_bytes: usize,
) -> Result<Part, ApiError> {
    let node = walk(tree, workspace, path)?;
    if node.kind() != Kind::File {
        let message = format_args!("{path} is not a file");
        return Err(ApiError::new(ErrorCode::InvalidArgument, message));
    }
    let failed = |error: ViewError| match error {
        ViewError::Gone => missing(tree, workspace, path),
        ViewError::NotADirectory
        | ViewError::NotALink
        | ViewError::Log(_)
        | ViewError::Output(_)
        | ViewError::Manifest(_)
        | ViewError::Terminal => ApiError::new(ErrorCode::StorageFailed, chain(&error)),
    };
    let content = tree.open(&node).map_err(failed)?;
    let file_bytes = tree.len_bytes(&content).map_err(failed)?;
    let offset = offset.min(file_bytes);
    // What comes after its length was told belongs to the next part.
    let rest = usize::try_from(file_bytes - offset).unwrap_or(usize::MAX);
    let bytes = tree.read(&content, offset, len_bytes.min(rest)).map_err(failed)?;
    Ok(Part { offset, bytes, file_bytes })
}

fn walk(tree: &View, workspace: WorkspaceId, path: &str) -> Result<Node, ApiError> {
    let mut node = Node::Workspace(workspace);
    for name in path.split('/') {
        node = tree.lookup(&node, name).map_err(|error| match error {
            ViewError::Gone | ViewError::NotADirectory => missing(tree, workspace, path),
            ViewError::NotALink
            | ViewError::Log(_)
            | ViewError::Output(_)
            | ViewError::Manifest(_)
            | ViewError::Terminal => ApiError::new(ErrorCode::StorageFailed, chain(&error)),
        })?;
    }
    Ok(node)
}

/// Returns what to tell of a path that leads nowhere: what there is at the place where it goes wrong.
fn missing(tree: &View, workspace: WorkspaceId, path: &str) -> ApiError {
    let (mut node, mut place) = (Node::Workspace(workspace), Vec::new());
    for name in path.split('/') {
        let Ok(next) = tree.lookup(&node, name) else { break };
        place.push(name);
        node = next;
    }
    let code = match place.first() {
        Some(&"logs") => ErrorCode::UnknownExec,
        Some(&"shells") => ErrorCode::UnknownShell,
        _ => ErrorCode::InvalidArgument,
    };
    // A link only says again what is there.
    let listed = tree.list(&node).unwrap_or_default().into_iter();
    let names: Vec<_> = listed.filter(|(_, node)| node.kind() != Kind::Link).map(|(name, _)| name).collect();
    let newest = &names[names.len().saturating_sub(NAMES_MAX)..];
    let there = if newest.is_empty() { "nothing".to_owned() } else { newest.join(", ") };
    let within = if place.is_empty() { String::new() } else { format!(" in {}", place.join("/")) };
    ApiError::new(code, format_args!("{workspace} has no {path}"))
        .with_hint(format_args!("there is{within}: {there}"))
}
