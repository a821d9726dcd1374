//! The output files that the events of a log name, compared with what the events say.

use std::collections::{BTreeMap, BTreeSet};

use pyro_api::{ApiError, ErrorCode, Home, LogCheckProgress, LogProblem};
use pyro_core::{Event, Gaps, Seq, StreamSummary, WorkspaceId};
use pyro_store::outputs::{OutputError, Outputs, Stream, StreamId};
use pyro_store::{Record, verify_records};

use super::unreadable;

/// The output that the events name.
#[derive(Default)]
pub(super) struct Streams {
    by_workspace: BTreeMap<WorkspaceId, Vec<Written>>,
    dropped: BTreeMap<(WorkspaceId, StreamId), Dropped>,
    gone: BTreeSet<WorkspaceId>,
    /// How many streams were of workspaces that are gone.
    pub(super) deleted: u64,
}

/// A stream, and the event that says what is in it.
struct Written {
    seq: Seq,
    stream: StreamId,
    summary: StreamSummary,
}

/// What is dropped of a stream.
#[derive(Clone, Default)]
struct Dropped {
    gaps: Gaps,
    /// What was dropped last: position behind it, and digest.
    last: (u64, [u8; 32]),
}

impl Streams {
    pub(super) fn see(&mut self, record: &Record) {
        let (seq, event) = (record.seq(), &record.envelope.event);
        let Some(workspace) = event.workspace() else { return };
        if is_deletion(event) {
            let known = self.by_workspace.remove(&workspace).unwrap_or_default();
            self.deleted += known.len() as u64;
            self.gone.insert(workspace);
            self.dropped.retain(|(of, _), _| *of != workspace);
        }
        if let Event::OutputDropped(event) = event
            && !self.gone.contains(&workspace)
        {
            let dropped = self.dropped.entry((workspace, event.stream)).or_default();
            dropped.gaps.add(event.from..event.to);
            dropped.last = (event.to, event.digest);
        }
        for (stream, summary) in written(event) {
            if self.gone.contains(&workspace) {
                self.deleted += 1;
            } else {
                let written = Written { seq, stream, summary };
                self.by_workspace.entry(workspace).or_default().push(written);
            }
        }
    }
}

/// Tells whether the output of the event's workspace is removed from now on.
const fn is_deletion(event: &Event) -> bool {
    matches!(event, Event::WorkspaceDeleting(_) | Event::WorkspaceDeleted(_))
}

/// Returns the streams that an event is the last word on.
fn written(event: &Event) -> Vec<(StreamId, StreamSummary)> {
    let exec = |exec, stdout: Option<&StreamSummary>, stderr: Option<&StreamSummary>| {
        let streams = [(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
        let named = |(stream, summary): (_, Option<&StreamSummary>)| {
            Some((StreamId::Exec(exec, stream), summary?.clone()))
        };
        streams.into_iter().filter_map(named).collect()
    };
    match event {
        Event::ExecExited(event) => exec(event.exec, Some(&event.stdout), Some(&event.stderr)),
        Event::ExecLost(event) => exec(event.exec, event.stdout.as_ref(), event.stderr.as_ref()),
        Event::ShellExited(event) => vec![(StreamId::Shell(event.shell), event.output.clone())],
        Event::ShellLost(event) => {
            event.output.iter().map(|output| (StreamId::Shell(event.shell), output.clone())).collect()
        }
        _ => Vec::new(),
    }
}

/// A stream that is not what its last event says.
pub(super) struct Bad {
    pub(super) workspace: WorkspaceId,
    pub(super) stream: StreamId,
    pub(super) problem: LogProblem,
}

/// Compares all output with its digests; returns what differs.
pub(super) fn check_outputs(
    home: &Home,
    streams: &Streams,
    done: &mut LogCheckProgress,
    progress: &mut dyn FnMut(LogCheckProgress),
) -> Result<Vec<Bad>, ApiError> {
    let mut bad = Vec::new();
    if streams.by_workspace.is_empty() {
        return Ok(bad);
    }
    let outputs = Outputs::open(home.outputs()).map_err(|error| unreadable_output(&error))?;
    for (workspace, written) in &streams.by_workspace {
        for Written { seq, stream, summary } in written {
            let Dropped { gaps, last } =
                streams.dropped.get(&(*workspace, *stream)).cloned().unwrap_or_default();
            let mut found =
                outputs.summary(*workspace, *stream, &gaps).map_err(|error| unreadable_output(&error))?;
            // Of a stream that went as a whole there is only the word of its last event.
            if let Some(found) = &mut found
                && gaps.kept_in(0..found.len_bytes).next().is_none()
                && last.0 >= found.len_bytes
            {
                found.digest = last.1;
            }
            let len_bytes = found.as_ref().map_or(0, |found| found.len_bytes);
            done.outputs += 1;
            done.output_bytes += len_bytes;
            progress(*done);
            let message = match found {
                Some(found) if found == *summary => continue,
                None if summary.len_bytes == 0 => continue,
                _ if len_bytes != summary.len_bytes => {
                    format!("has {len_bytes} bytes instead of {}", summary.len_bytes)
                }
                Some(_) | None => "does not have the digest that was recorded".to_owned(),
            };
            let file = outputs.path(*workspace, *stream).display().to_string();
            let message = format!("the output file of event {seq} {message}");
            let about = "output".to_owned();
            let problem = LogProblem { about, seq: Some(seq.0), file: Some(file), message };
            bad.push(Bad { workspace: *workspace, stream: *stream, problem });
        }
    }
    Ok(bad)
}

/// What a daemon that goes on has taken away since the log was read.
#[derive(Default)]
pub(super) struct Since {
    /// Workspaces that are deleted by now.
    pub(super) deleted: BTreeSet<WorkspaceId>,
    /// Streams of which more is dropped now.
    pub(super) dropped: BTreeSet<(WorkspaceId, StreamId)>,
}

impl Since {
    pub(super) fn read(home: &Home, head: Seq) -> Result<Self, ApiError> {
        let mut since = Self::default();
        let read = verify_records(home.log(), |record| match &record.envelope.event {
            event if is_deletion(event) => since.deleted.extend(event.workspace()),
            Event::OutputDropped(event) if record.seq() > head => {
                since.dropped.insert((event.workspace, event.stream));
            }
            _ => {}
        });
        read.map(|_report| since).map_err(|error| unreadable(&error))
    }
}

fn unreadable_output(error: &OutputError) -> ApiError {
    ApiError::new(ErrorCode::StorageFailed, crate::sessions::chain(error))
}
