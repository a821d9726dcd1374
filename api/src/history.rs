//! The commands that ended in a workspace, put together from what the daemon sends of them.

use crate::captured::CapturedOutput;
use crate::client::Incoming;
use crate::message::Progress;
use crate::response::{CommandRecord, LogEntry, WorkspaceLogs, WorkspaceLogsEnd};

/// Takes what comes before the end of a [`WorkspaceLogsRequest`](crate::WorkspaceLogsRequest).
#[derive(Debug, Default)]
pub struct History {
    entries: Vec<LogEntry>,
    open: Option<(CommandRecord, CapturedOutput)>,
    /// What is kept of the output of each command.
    kept: CapturedOutput,
}

impl History {
    /// Returns a history without commands.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a history without commands, of whose output other lengths are kept.
    #[must_use]
    pub fn keeping(head_bytes: usize, tail_bytes: usize) -> Self {
        Self { kept: CapturedOutput::keeping(head_bytes, tail_bytes), ..Self::default() }
    }

    /// Takes what comes next. A record begins a command, and what follows is its output.
    pub fn push(&mut self, incoming: Incoming) {
        match (incoming, &mut self.open) {
            (Incoming::Progress(Progress::Record(record)), _) => {
                self.close();
                self.open = Some((record, self.kept.clone()));
            }
            (Incoming::Output(stream, bytes), Some((_, output))) => output.push(stream, &bytes),
            (Incoming::Progress(Progress::Gap { stream, from, to, .. }), Some((_, output))) => {
                output.skip(stream, to.saturating_sub(from));
            }
            _ => {}
        }
    }

    /// Returns the commands with their output.
    #[must_use]
    pub fn finish(mut self, end: WorkspaceLogsEnd) -> WorkspaceLogs {
        self.close();
        WorkspaceLogs { workspace_id: end.workspace_id, count: end.count, entries: self.entries }
    }

    fn close(&mut self) {
        if let Some((record, output)) = self.open.take() {
            self.entries.push(LogEntry { record, output: output.into_text() });
        }
    }
}
