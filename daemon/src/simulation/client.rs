//! Simulated clients: what they ask for, and what they know from answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyro_core::{
    Cause, Command, DeleteReason, Envelope, Phase, RequestId, ShellId, ShellPhase, State, SyncSource,
    SyncSourceKind, Tags, TerminalSize, Workspace, WorkspaceId, WorkspaceSpec,
};
use pyro_store::AppendError;

use super::daemon::{Asker, Entry};
use super::random::Random;
use super::world::World;
use crate::engine::{Outcome, Refusal};

const SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

/// A request, with all its tries.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    command: Command,
    /// Tries that may have had an effect of which nobody knows.
    pub(super) open: u32,
    /// The first answer with an effect.
    pub(super) events: Option<Vec<Arc<Envelope>>>,
    /// Nobody asks for this any more.
    given_up: bool,
}

/// All requests by their ids.
#[derive(Debug, Default)]
pub(super) struct Clients {
    asked: BTreeMap<RequestId, Asked>,
}

impl Clients {
    pub(super) fn asked(&self, request: RequestId) -> Option<&Asked> {
        self.asked.get(&request)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (RequestId, &Asked)> {
        self.asked.iter().map(|(request, asked)| (*request, asked))
    }

    /// Returns the requests that somebody may repeat.
    fn pursued(&self) -> Vec<RequestId> {
        self.all().filter(|(_, asked)| !asked.given_up).map(|(request, _)| request).collect()
    }

    /// Sees to it that nobody repeats some requests.
    pub(super) fn give_up(&mut self, requests: &BTreeSet<RequestId>) {
        for request in requests {
            if let Some(asked) = self.asked.get_mut(request) {
                asked.given_up = true;
            }
        }
    }

    /// Takes an answer; an error tells what is wrong with it.
    pub(super) fn hear(&mut self, cause: Cause, answer: &Result<Outcome, Refusal>) -> Result<(), String> {
        let Cause::Request(request) = cause else { return Ok(()) };
        let Some(asked) = self.asked.get_mut(&request) else { return Ok(()) };
        match answer {
            Err(Refusal::Append(error)) if matches!(**error, AppendError::Io { .. }) => return Ok(()),
            Err(_) => asked.open -= 1,
            Ok(outcome) => {
                asked.open -= 1;
                let events = outcome.envelopes();
                if let (Outcome::Repeated(_), true) = (outcome, events.is_empty()) {
                    return Err(format!("{request:?} was repeated with nothing"));
                }
                match &asked.events {
                    Some(first) if first != events => {
                        return Err(format!("{request:?} had {first:?} first and {events:?} now"));
                    }
                    None if !events.is_empty() => asked.events = Some(events.to_vec()),
                    Some(_) | None => {}
                }
            }
        }
        Ok(())
    }
}

impl World {
    /// Lets a client ask for something.
    pub(super) fn ask(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let state = daemon.state();
        if daemon.inbox.len() > 20 {
            return;
        }
        let repeat = if self.random.percent(15) && !self.calm {
            self.random.pick(self.clients.pursued())
        } else {
            None
        };
        let (request, command) = match repeat {
            Some(request) => {
                let command = self.clients.asked.get(&request).map(|asked| asked.command.clone());
                let Some(command) = command else { return };
                // A daemon draws ids of its own for each try.
                (request, redraw(command, &mut self.random))
            }
            None => {
                let command =
                    if self.calm { ending(&state, &mut self.random) } else { wish(&state, &mut self.random) };
                let Some(command) = command else { return };
                (RequestId::from_bytes(self.random.bytes()), command)
            }
        };
        self.tell(|| format!("client: {request:?} {command:?}"));
        let asked = self.clients.asked.entry(request);
        asked
            .or_insert_with(|| Asked { command: command.clone(), open: 0, events: None, given_up: false })
            .open += 1;
        if let Some(daemon) = &mut self.daemon {
            daemon.inbox.push_back(Entry { command, cause: Cause::Request(request), asker: Asker::Client });
        }
    }
}

fn redraw(command: Command, random: &mut Random) -> Command {
    match command {
        Command::OpenWorkspace { spec, tags, seed, .. } => {
            Command::OpenWorkspace { workspace: WorkspaceId::from_bytes(random.bytes()), spec, tags, seed }
        }
        Command::Run { spec, command, timeout_ms, .. } => {
            Command::Run { workspace: WorkspaceId::from_bytes(random.bytes()), spec, command, timeout_ms }
        }
        Command::OpenShell { workspace, cwd, size, .. } => {
            Command::OpenShell { workspace, shell: ShellId::from_bytes(random.bytes()), cwd, size }
        }
        command => command,
    }
}

fn spec(random: &mut Random) -> WorkspaceSpec {
    WorkspaceSpec {
        environment: "debian:12".parse().expect("the catalog has it"),
        environment_version: "1.0.0".to_owned(),
        vcpu_count: 1,
        mem_mib: 64 + random.below(250),
        ttl_seconds: if random.percent(50) { 0 } else { 60 + random.below(600) },
        network: false,
        allow_host_compat: false,
    }
}

fn source() -> SyncSource {
    SyncSource { kind: SyncSourceKind::Directory, path: "/src".to_owned() }
}

/// Draws something to ask for; `None` when there is nothing to ask it of.
fn wish(state: &State, random: &mut Random) -> Option<Command> {
    let number = random.below(100);
    if number < 12 || state.workspaces.is_empty() {
        let name = random.percent(30).then(|| "web".to_owned());
        return Some(Command::OpenWorkspace {
            workspace: WorkspaceId::from_bytes(random.bytes()),
            spec: spec(random),
            tags: Tags { name, labels: BTreeMap::new() },
            seed: random.percent(25).then(source),
        });
    }
    if number < 18 {
        return Some(Command::Run {
            workspace: WorkspaceId::from_bytes(random.bytes()),
            spec: spec(random),
            command: "true".to_owned(),
            timeout_ms: 1_000,
        });
    }
    if number < 26 {
        return wish_of_life(state, random);
    }
    let started = state.workspaces.iter().filter(|(_, known)| known.phase == Phase::Started);
    // Most know what they can ask for.
    let (id, known) = match random.pick(started) {
        Some(started) if random.percent(90) => started,
        _ => random.pick(state.workspaces.iter())?,
    };
    let workspace = *id;
    match number {
        26..46 => {
            let (command, cwd) = ("make".to_owned(), None);
            Some(Command::RequestExec { workspace, command, cwd, timeout_ms: 1_000 })
        }
        46..54 => cancel_exec(workspace, known, random),
        54..63 => {
            let shell = ShellId::from_bytes(random.bytes());
            Some(Command::OpenShell { workspace, shell, cwd: "/".to_owned(), size: SIZE })
        }
        63..84 => {
            let running = known.shells.iter().filter(|(_, shell)| shell.phase == ShellPhase::Running);
            let shell = *random.pick(running)?.0;
            let data = (0..=random.below(9)).map(|_| random.bytes::<1>()[0]).collect();
            Some(Command::TypeInput { workspace, shell, data })
        }
        84..87 => Some(Command::CloseShell { workspace, shell: *random.pick(known.shells.keys())? }),
        87..97 => Some(Command::RequestSync {
            workspace,
            source: source(),
            destination: "/workspace".to_owned(),
            changes: None,
        }),
        _ => Some(Command::CancelSync { workspace, sync: *random.pick(known.open_syncs.keys())? }),
    }
}

fn wish_of_life(state: &State, random: &mut Random) -> Option<Command> {
    let workspace = *random.pick(state.workspaces.keys())?;
    Some(match random.below(8) {
        0..2 => Command::StopWorkspace { workspace },
        2..6 => Command::StartWorkspace { workspace },
        _ => Command::DeleteWorkspace { workspace, reason: DeleteReason::Explicit },
    })
}

fn cancel_exec(workspace: WorkspaceId, known: &Workspace, random: &mut Random) -> Option<Command> {
    Some(Command::CancelExec { workspace, exec: *random.pick(known.open_execs.keys())? })
}

/// Draws something that ends what would go on for ever.
fn ending(state: &State, random: &mut Random) -> Option<Command> {
    let (id, known) = random.pick(state.workspaces.iter())?;
    let workspace = *id;
    if matches!(known.phase, Phase::Deleting { .. }) {
        return None;
    }
    let unasked = known.open_execs.iter().filter(|(_, exec)| !exec.cancel_requested);
    if let Some((exec, _)) = random.pick(unasked) {
        return Some(Command::CancelExec { workspace, exec: *exec });
    }
    let unasked = known.shells.iter().filter(|(_, shell)| !shell.closing);
    random.pick(unasked).map(|(shell, _)| Command::CloseShell { workspace, shell: *shell })
}
