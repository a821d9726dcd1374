//! Rules for stored output that goes.

use alloc::vec;
use alloc::vec::Vec;

use crate::event::{Event, OutputDropped};
use crate::rejection::Rejection;
use crate::state::{Phase, State, Workspace};
use crate::stream::StreamId;

use super::workspace::existing;

/// Of a stream that grows, any part can go. One that has ended goes from its beginning, so that the digest which its end
/// recorded is never one of bytes of which only some are there.
pub(super) fn dropped(state: &State, fact: &OutputDropped) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, fact.workspace)?;
    let gaps = workspace.dropped.get(&fact.stream);
    let known = gaps.map_or(0, |gaps| gaps.dropped_in(fact.from..fact.to));
    let is_news = fact.from < fact.to && known < fact.to - fact.from;
    let has_ended = !is_open(workspace, fact.stream);
    let is_deleting = matches!(workspace.phase, Phase::Deleting { .. });
    if !is_news || is_deleting || !was_begun(workspace, fact.stream) || (has_ended && fact.from > 0) {
        return Err(Rejection::Stale);
    }
    Ok(vec![Event::OutputDropped(fact.clone())])
}

fn is_open(workspace: &Workspace, stream: StreamId) -> bool {
    match stream {
        StreamId::Exec(exec, _) => workspace.open_execs.contains_key(&exec),
        StreamId::Shell(shell) => workspace.shells.get(&shell).is_some_and(|shell| shell.phase.is_open()),
    }
}

/// Closed shells are not known any more, and their output is there until the workspace goes.
const fn was_begun(workspace: &Workspace, stream: StreamId) -> bool {
    match stream {
        StreamId::Exec(exec, _) => exec.0 >= 1 && exec.0 <= workspace.exec_count,
        StreamId::Shell(_) => true,
    }
}
