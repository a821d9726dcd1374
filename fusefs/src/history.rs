//! What a workspace's events say of the past, beyond the state: its commands that have ended, the lengths of their output, the
//! sizes that its terminals had, and when something was typed into them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyro_core::{
    Envelope, Event, ExecNumber, ExecutionMode, ExitStatus, Seq, ShellId, Stream, StreamId, StreamSummary,
    TerminalSize, Timestamp,
};

/// A command of a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRecord {
    /// Its number.
    pub number: ExecNumber,
    /// Text for `/bin/sh -lc`.
    pub command: String,
    /// Directory that it runs in; `None` leaves it to the guest.
    pub cwd: Option<String>,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// How commands got into the guest then.
    pub mode: ExecutionMode,
    /// How it ended; `None` as long as it has not.
    pub end: Option<ExecEnd>,
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecEnd {
    /// When it was recorded.
    pub at: Timestamp,
    /// What it was.
    pub outcome: Outcome,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited.
    Exited {
        /// How.
        status: ExitStatus,
        /// Run time as measured in the guest, in milliseconds.
        duration_ms: u64,
    },
    /// It never ran; the text says why.
    Failed(String),
    /// What became of it cannot be known; the text says what was seen.
    Lost(String),
}

impl ExecRecord {
    /// Returns how it exited and how long it ran, in milliseconds; `None` when it did not, or not yet.
    #[must_use]
    pub const fn exit(&self) -> Option<(ExitStatus, u64)> {
        match &self.end {
            Some(ExecEnd { outcome: Outcome::Exited { status, duration_ms }, .. }) => {
                Some((*status, *duration_ms))
            }
            Some(ExecEnd { outcome: Outcome::Failed(_) | Outcome::Lost(_), .. }) | None => None,
        }
    }
}

/// The commands that have ended, in that order. It only grows, and is shared with those who have a file of it open.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    records: Mutex<Vec<Arc<ExecRecord>>>,
}

impl Ended {
    pub(crate) fn records(&self) -> MutexGuard<'_, Vec<Arc<ExecRecord>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The past of one workspace.
#[derive(Debug)]
pub(crate) struct History {
    /// When its last event happened.
    pub(crate) changed_at: Timestamp,
    pub(crate) ended: Arc<Ended>,
    execs: BTreeMap<ExecNumber, Arc<ExecRecord>>,
    sizes: BTreeMap<ShellId, Vec<(Timestamp, TerminalSize)>>,
    typed: BTreeMap<ShellId, Vec<(Timestamp, Seq)>>,
    /// How long streams were in the end, in bytes.
    lens: BTreeMap<StreamId, u64>,
    mode: ExecutionMode,
}

impl Default for History {
    fn default() -> Self {
        Self {
            changed_at: Timestamp::default(),
            ended: Arc::default(),
            execs: BTreeMap::new(),
            sizes: BTreeMap::new(),
            typed: BTreeMap::new(),
            lens: BTreeMap::new(),
            mode: ExecutionMode::Pending,
        }
    }
}

impl History {
    /// Returns a command; `None` when none of that number was asked for.
    pub(crate) fn exec(&self, number: ExecNumber) -> Option<&Arc<ExecRecord>> {
        self.execs.get(&number)
    }

    /// Returns how long a stream was at its end, in bytes; 0 as long as that is not known.
    pub(crate) fn len_bytes(&self, stream: StreamId) -> u64 {
        self.lens.get(&stream).copied().unwrap_or(0)
    }

    /// Returns the sizes that a shell's terminal had, the first of which it began with.
    pub(crate) fn sizes(&self, shell: ShellId) -> &[(Timestamp, TerminalSize)] {
        self.sizes.get(&shell).map_or(&[], Vec::as_slice)
    }

    /// Returns the events that say what was typed into a shell.
    pub(crate) fn typed(&self, shell: ShellId) -> &[(Timestamp, Seq)] {
        self.typed.get(&shell).map_or(&[], Vec::as_slice)
    }

    /// Takes note of the next event of the workspace.
    pub(crate) fn see(&mut self, envelope: &Envelope) {
        self.changed_at = envelope.at;
        self.lens.extend(lens(&envelope.event));
        match &envelope.event {
            Event::WorkspaceStarted(event) => self.mode = event.backend.execution_mode(),
            Event::ExecRequested(event) => {
                let record = ExecRecord {
                    number: event.exec,
                    command: event.command.clone(),
                    cwd: event.cwd.clone(),
                    requested_at: envelope.at,
                    mode: self.mode,
                    end: None,
                };
                self.execs.insert(event.exec, Arc::new(record));
            }
            Event::ExecExited(event) => {
                let outcome = Outcome::Exited { status: event.status, duration_ms: event.duration_ms };
                self.end(event.exec, envelope.at, outcome);
            }
            Event::ExecFailed(event) => {
                self.end(event.exec, envelope.at, Outcome::Failed(event.reason.clone()));
            }
            Event::ExecLost(event) => self.end(event.exec, envelope.at, Outcome::Lost(event.reason.clone())),
            Event::ShellRequested(event) => {
                self.sizes.insert(event.shell, vec![(envelope.at, event.size)]);
            }
            Event::ShellResized(event) => {
                self.sizes.entry(event.shell).or_default().push((envelope.at, event.size));
            }
            Event::ShellInput(event) => {
                self.typed.entry(event.shell).or_default().push((envelope.at, envelope.seq));
            }
            Event::ShellFailed(event) => self.forget(event.shell),
            Event::ShellClosed(event) => self.forget(event.shell),
            _ => {}
        }
    }

    fn forget(&mut self, shell: ShellId) {
        self.sizes.remove(&shell);
        self.typed.remove(&shell);
    }

    fn end(&mut self, number: ExecNumber, at: Timestamp, outcome: Outcome) {
        let Some(open) = self.execs.get_mut(&number).filter(|record| record.end.is_none()) else { return };
        let ended = Arc::new(ExecRecord { end: Some(ExecEnd { at, outcome }), ..(**open).clone() });
        *open = Arc::clone(&ended);
        self.ended.records().push(ended);
    }
}

/// Returns how long the streams were that end with an event.
fn lens(event: &Event) -> impl Iterator<Item = (StreamId, u64)> + use<> {
    let exec = |exec, stdout, stderr| {
        [(StreamId::Exec(exec, Stream::Stdout), stdout), (StreamId::Exec(exec, Stream::Stderr), stderr)]
    };
    let shell = |shell, output| [(StreamId::Shell(shell), output), (StreamId::Shell(shell), None)];
    let len = |summary: &StreamSummary| summary.len_bytes;
    let streams = match event {
        Event::ExecExited(event) => {
            Some(exec(event.exec, Some(len(&event.stdout)), Some(len(&event.stderr))))
        }
        Event::ExecLost(event) => {
            Some(exec(event.exec, event.stdout.as_ref().map(len), event.stderr.as_ref().map(len)))
        }
        Event::ShellExited(event) => Some(shell(event.shell, Some(len(&event.output)))),
        Event::ShellLost(event) => Some(shell(event.shell, event.output.as_ref().map(len))),
        _ => None,
    };
    streams.into_iter().flatten().filter_map(|(stream, len)| Some((stream, len?)))
}
