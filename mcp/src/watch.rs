//! Those who watch what changes: one for the event log, and one for each terminal that somebody looks at. Each is a thread,
//! for as long as anybody wants it.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use pyro_api::{
    ApiError, CallError, CancelToken, DaemonStatusRequest, ErrorCode, Events, Incoming, Link, LogPoint,
    LogRequest, NextEvent, Progress, ShellFollowRequest, ShellReadRequest, Start,
};
use tokio::sync::broadcast;

use crate::call::Way;
use crate::change::{Change, Changes};

/// Changes that are kept for a client that is slow to hear of them; who misses some takes everything as changed.
const CHANGES_MAX: usize = 1024;

/// Most threads that watch at the same time, for all clients together.
const WATCHERS_MAX: usize = 64;

/// Time after which it is tried again to reach a daemon that has ended. It is not started: that is up to who needs it.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The event log.
    Log,
    /// What a shell prints.
    Shell { workspace: String, shell: String },
}

/// All that is watched for the clients of one server.
#[derive(Debug)]
pub(crate) struct Watch {
    changes: broadcast::Sender<Change>,
    watchers: Mutex<HashMap<Source, Weak<Lease>>>,
}

/// The wish that something is watched. The last one that is dropped ends it.
#[derive(Debug)]
pub(crate) struct Lease {
    cancel: CancelToken,
    /// The watcher notices that this is gone while it waits for a daemon.
    _wanted: mpsc::Sender<()>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self { changes: broadcast::Sender::new(CHANGES_MAX), watchers: Mutex::default() }
    }

    /// Returns what comes to be known from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Has something watched. No change is missed that comes after this has returned. Blocks.
    ///
    /// # Errors
    ///
    /// When it is not there, too much is watched, or no daemon can be reached.
    pub(crate) fn lease(&self, source: Source, way: &Way) -> Result<Arc<Lease>, ApiError> {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|_, lease| lease.strong_count() > 0);
        if let Some(lease) = watchers.get(&source).and_then(Weak::upgrade) {
            return Ok(lease);
        }
        if watchers.len() >= WATCHERS_MAX {
            let message = "too much is watched at the same time";
            return Err(ApiError::new(ErrorCode::LimitReached, message)
                .with_hint("resources/unsubscribe from what is not needed any more"));
        }
        let (wanted, unwanted) = mpsc::channel();
        let lease = Arc::new(Lease { cancel: CancelToken::new(), _wanted: wanted });
        let watcher = Watcher {
            cursor: source.end(way)?,
            way: way.clone(),
            cancel: lease.cancel.clone(),
            unwanted,
            changes: self.changes.clone(),
            source: source.clone(),
        };
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || watcher.watch());
        thread.map_err(|error| ApiError::new(ErrorCode::LimitReached, error))?;
        watchers.insert(source, Arc::downgrade(&lease));
        Ok(lease)
    }
}

impl Source {
    /// Returns where it ends now: the number of the last event, or the length of what was printed in bytes.
    fn end(&self, way: &Way) -> Result<u64, ApiError> {
        let cancel = CancelToken::new();
        match self {
            Self::Log => Ok(way.look(&DaemonStatusRequest {}, &cancel)?.head_seq),
            Self::Shell { workspace, shell } => {
                let request = ShellReadRequest {
                    workspace_id: workspace.clone(),
                    shell_id: shell.clone(),
                    cursor: u64::MAX,
                    max_chars: 1,
                    plain: false,
                    wait_for_idle_ms: None,
                    at: None,
                };
                Ok(way.look(&request, &cancel)?.next_cursor)
            }
        }
    }
}

/// A thread that watches.
struct Watcher {
    source: Source,
    /// What lies before this is known.
    cursor: u64,
    way: Way,
    cancel: CancelToken,
    unwanted: mpsc::Receiver<()>,
    changes: broadcast::Sender<Change>,
}

/// Whether there can be more.
enum Rest {
    More,
    None,
}

impl Watcher {
    fn watch(mut self) {
        loop {
            let rest = match self.source.clone() {
                Source::Log => self.follow_log(),
                Source::Shell { workspace, shell } => self.follow_shell(&workspace, &shell),
            };
            let is_over = match rest {
                Ok(rest) => matches!(rest, Rest::None),
                // Where it stood is not there any more: it begins anew, and nobody knows what was missed.
                Err(CallError::Failed(_)) if self.source == Source::Log => {
                    self.cursor = u64::MAX;
                    false
                }
                Err(CallError::Failed(_)) => true,
                Err(CallError::Connect(_) | CallError::Transport(_)) => false,
            };
            if is_over || self.unwanted.recv_timeout(RETRY_AFTER) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    fn tell(&self, change: Change) {
        // Nobody who listens is nobody who misses it.
        let _listeners = self.changes.send(change);
    }

    fn follow_log(&mut self) -> Result<Rest, CallError> {
        let (home, info) = (&self.way.home, &self.way.info);
        let head =
            Link::new(home, info, &Start::Never).call(&DaemonStatusRequest {}, &self.cancel, |_| {})?;
        if head.head_seq < self.cursor {
            // It is another log, or it was compacted.
            self.cursor = head.head_seq;
            self.tell(Change::Unknown);
        }
        let since = Some(LogPoint::after(self.cursor));
        let request = LogRequest { since, follow: true, ..LogRequest::default() };
        let mut events = Events::start(home, info, &Start::Never, request, &self.cancel)?;
        let mut changes = Changes::default();
        loop {
            match events.next_event()? {
                NextEvent::Event(event) => {
                    self.cursor = event.seq;
                    self.tell(changes.of(*event));
                }
                NextEvent::CaughtUp => {}
                NextEvent::End => return Ok(Rest::More),
            }
        }
    }

    fn follow_shell(&mut self, workspace: &str, shell: &str) -> Result<Rest, CallError> {
        let request = ShellFollowRequest {
            workspace_id: workspace.to_owned(),
            shell_id: shell.to_owned(),
            cursor: self.cursor,
        };
        let mut link = Link::new(&self.way.home, &self.way.info, &Start::Never);
        let (cancel, mut cursor) = (self.cancel.clone(), self.cursor);
        let printed = || Change::Printed { workspace: workspace.to_owned(), shell: shell.to_owned() };
        let end = link.call(&request, &cancel, |incoming| match incoming {
            Incoming::Output(_, bytes) => {
                cursor += bytes.len() as u64;
                self.tell(printed());
            }
            Incoming::Progress(Progress::Joined { cursor: begin }) => cursor = begin,
            Incoming::Progress(Progress::Gap { to, .. }) => cursor = to,
            Incoming::Progress(_) | Incoming::Event(_) | Incoming::Reply(_) => {}
        });
        self.cursor = cursor;
        Ok(if end?.shell.ended_at.is_some() { Rest::None } else { Rest::More })
    }
}
