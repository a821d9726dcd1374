//! Rules for stored output that goes.

use super::*;
use crate::event::{DropPolicy, OutputDropped};
use crate::stream::{Stream, StreamId};

const STDOUT: StreamId = StreamId::Exec(ExecNumber(1), Stream::Stdout);

fn dropped(stream: StreamId, from: u64, to: u64) -> Command {
    let policy = DropPolicy::Stream { bytes_max: 100 };
    Command::RecordOutputDropped(OutputDropped { workspace: ID, stream, from, to, digest: [1; 32], policy })
}

fn with_exec() -> Vec<Command> {
    vec![open(ID, None), started(ID), request(ID)]
}

/// Catches a gap that is recorded twice, is none, or is forgotten when the daemon starts again.
#[test]
fn gaps_are_recorded_once_and_known() {
    let mut commands = with_exec();
    assert_eq!(when(&commands, &dropped(STDOUT, 10, 20)), Ok(vec!["output_dropped"]));
    commands.push(dropped(STDOUT, 10, 20));
    assert_eq!(when(&commands, &dropped(STDOUT, 12, 20)), Err(Rejection::Stale));
    assert_eq!(when(&commands, &dropped(STDOUT, 30, 30)), Err(Rejection::Stale));
    assert_eq!(when(&commands, &dropped(STDOUT, 12, 21)), Ok(vec!["output_dropped"]));
    commands.push(dropped(STDOUT, 20, 30));
    commands.push(exited(ID, 1));
    let (state, _) = given(&commands);
    let gaps: Vec<_> = state.workspace(ID).unwrap().dropped[&STDOUT].iter().collect();
    assert_eq!(gaps, vec![10..30]);
}

/// Catches a digest of an end that can never be checked again, because only some of its bytes went.
#[test]
fn what_has_ended_goes_from_its_beginning() {
    let mut commands = with_exec();
    commands.push(exited(ID, 1));
    assert_eq!(when(&commands, &dropped(STDOUT, 1, 20)), Err(Rejection::Stale));
    assert_eq!(when(&commands, &dropped(STDOUT, 0, 20)), Ok(vec!["output_dropped"]));
    let never = StreamId::Exec(ExecNumber(2), Stream::Stdout);
    assert_eq!(when(&commands, &dropped(never, 0, 20)), Err(Rejection::Stale));
    let reason = DeleteReason::Explicit;
    commands.push(Command::DeleteWorkspace { workspace: ID, reason });
    assert_eq!(when(&commands, &dropped(STDOUT, 0, 20)), Err(Rejection::Stale), "all of it goes");
}
