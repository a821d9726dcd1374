//! What an agent before this one left: decided imports are finished, all others are removed.

use std::os::fd::OwnedFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::commit::{self, Commit};
use super::failure::{Doing as _, Failure};
use super::stage::{Stage, open_place};
use super::{marker, removal};
use crate::agent;
use crate::files::cursor::{Missing, for_each, open_directory};
use crate::files::path::EntryPath;

/// Finishes and removes the stages in the directory `place`. To be called before anything else runs in the guest.
///
/// It complains of what it cannot do and goes on: a guest with a half import is of more use than one that does not
/// start.
pub(super) fn recover(place: &EntryPath) {
    let result = open_place(place, Missing::Fail).and_then(|place| {
        let mut stages = Vec::new();
        for_each(&place, |name, kind| {
            if let Some(op) = number(name).filter(|_| kind == FileType::Directory) {
                stages.push(op);
            }
            Ok::<_, Errno>(())
        })?;
        // In the order in which the host gave the numbers.
        stages.sort_unstable();
        for op in stages {
            complain_of(settle(&place, op));
        }
        Ok(())
    });
    match result {
        // No import was ever begun.
        Err(Errno::NOENT) => {}
        result => complain_of(result.doing("look for imports that were interrupted")),
    }
}

fn number(name: &[u8]) -> Option<u64> {
    let number = name.strip_prefix(b"import-")?;
    let parsed = std::str::from_utf8(number).ok()?.parse().ok()?;
    // Only names as they are given: others belong to somebody else.
    (format!("{parsed}").as_bytes() == number).then_some(parsed)
}

fn settle(place: &OwnedFd, op: u64) -> Result<(), Failure> {
    let name = format!("import-{op}");
    let directory = open_directory(place, name.as_bytes()).doing("open the stage of an import")?;
    let decided = marker::read(&directory).doing("read the marker of an import")?;
    let Some((import, decided)) = decided else {
        return removal::remove(place, name.as_bytes()).doing("remove the stage of an import");
    };
    let reopened =
        rustix::io::fcntl_dupfd_cloexec(place, 0).and_then(|place| Stage::reopen(place, name, decided));
    let mut stage = reopened.doing("open the stage of an import")?;
    let finished = finish(&mut stage, &import.destination);
    stage.remove();
    finished
}

/// Moves in what is still there to be moved.
fn finish(stage: &mut Stage, destination: &str) -> Result<(), Failure> {
    let (destination, mut plan) = commit::draw(stage, destination)?;
    if let Some(conflict) = plan.conflicts.take() {
        agent::complain(&conflict);
    }
    let mut commit = Commit::new(stage, destination, &plan)?;
    commit.make_destination()?;
    for path in &plan.removals {
        complain_of(commit.remove(path).doing_at(path, "remove what is there"));
    }
    complain_of(commit.note_removals());
    for index in 0..plan.moves.len() {
        complain_of(commit.move_in(index));
    }
    for index in 0..plan.directories.len() {
        complain_of(commit.finish_directory(index));
    }
    Ok(())
}

fn complain_of(result: Result<(), Failure>) {
    if let Err(failure) = result {
        agent::complain(&failure);
    }
}
