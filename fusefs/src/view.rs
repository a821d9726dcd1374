//! The tree as a function of the log and the output files. It has no thread and knows no kernel.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyro_core::{
    Envelope, Event, ExecNumber, Seq, ShellId, ShellPhase, State, Timestamp, WORKSPACE_PATH, Workspace,
    WorkspaceId, evolve,
};
use pyro_store::outputs::{OutputError, Outputs, Stream, StreamId};
use pyro_store::{ReadError, Reader};

use crate::attributes::{Attributes, Kind};
use crate::cast::Typed;
use crate::content::{Content, EventLines, Held, LogLines, StreamFile};
use crate::drawn::{Drawn, Made};
use crate::history::History;
use crate::host::Host;
use crate::live::Files;
use crate::node::{LogFile, Node, ShellFile, WorkspaceFile};
use crate::screen::{ScreenError, Style};
use crate::tree;

/// What the tree is, for people.
const README: &str = include_str!("../README.txt");

/// Why something of the tree cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// It is not there.
    #[error("it is not there")]
    Gone,
    /// It has nothing below it.
    #[error("it is not a directory")]
    NotADirectory,
    /// It leads nowhere.
    #[error("it is not a link")]
    NotALink,
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// Output could not be read.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The manifest of an environment could not be read.
    #[error("cannot read the manifest: {0}")]
    Manifest(io::Error),
    /// The terminal of a shell cannot be drawn.
    #[error("the terminal cannot be drawn")]
    Terminal,
}

impl From<ScreenError> for ViewError {
    fn from(error: ScreenError) -> Self {
        match error {
            ScreenError::Output(error) => Self::Output(error),
            ScreenError::Terminal => Self::Terminal,
        }
    }
}

/// What a read of a file that is followed comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing more will come.
    End,
    /// Nothing yet.
    NotYet,
}

/// Something that readers who wait or names that the kernel keeps depend on has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    /// There are more events.
    Events,
    /// A stream ended.
    Ended(WorkspaceId, StreamId),
    /// A node is not there any more, with all that was below it.
    Gone(Node),
}

/// The tree.
#[derive(Debug)]
pub struct View {
    reader: Reader,
    outputs: Outputs,
    host: Arc<dyn Host>,
    known: Mutex<Known>,
    events: Arc<EventLines>,
    refusals: Mutex<HashMap<WorkspaceId, String>>,
    /// Whether recordings have what was typed.
    casts_input: bool,
    /// Whether a kernel is to be told what has changed.
    has_kernel: bool,
}

/// What the log says, up to one event.
#[derive(Debug)]
struct Known {
    state: State,
    /// When the last event happened.
    at: Timestamp,
    /// The pasts of those workspaces that somebody has looked into.
    pasts: HashMap<WorkspaceId, Past>,
    changes: Vec<Change>,
}

/// The past of a workspace, and what was made of it.
#[derive(Debug)]
struct Past {
    history: History,
    events: Arc<EventLines>,
    logs: Arc<LogLines>,
    drawn: HashMap<ShellId, Arc<Mutex<Made>>>,
}

impl Known {
    /// Folds the next event.
    fn see(&mut self, envelope: &Envelope) {
        self.at = envelope.at;
        if self.changes.last() != Some(&Change::Events) {
            self.changes.push(Change::Events);
        }
        if let Event::WorkspaceDeleted(event) = &envelope.event {
            let name = self.state.workspace(event.workspace).and_then(|known| known.name.clone());
            self.changes.extend(name.map(|name| Change::Gone(Node::Named(name))));
            self.changes.push(Change::Gone(Node::Workspace(event.workspace)));
            self.pasts.remove(&event.workspace);
        }
        evolve(&mut self.state, envelope);
        let ended = |stream| envelope.event.workspace().map(|id| Change::Ended(id, stream));
        match &envelope.event {
            Event::ExecExited(_) | Event::ExecFailed(_) | Event::ExecLost(_) => {
                let exec = exec_of(&envelope.event);
                let streams = [Stream::Stdout, Stream::Stderr];
                let streams =
                    exec.into_iter().flat_map(|exec| streams.map(|stream| StreamId::Exec(exec, stream)));
                self.changes.extend(streams.filter_map(ended));
            }
            Event::ShellExited(event) => self.changes.extend(ended(StreamId::Shell(event.shell))),
            Event::ShellLost(event) => self.changes.extend(ended(StreamId::Shell(event.shell))),
            Event::ShellFailed(event) => self.shell_gone(event.workspace, event.shell),
            Event::ShellClosed(event) => self.shell_gone(event.workspace, event.shell),
            _ => {}
        }
        if let Some(past) = envelope.event.workspace().and_then(|id| self.pasts.get_mut(&id)) {
            past.history.see(envelope);
        }
    }

    fn shell_gone(&mut self, workspace: WorkspaceId, shell: ShellId) {
        self.changes.push(Change::Gone(Node::Shell(workspace, shell)));
        if let Some(past) = self.pasts.get_mut(&workspace) {
            past.drawn.remove(&shell);
        }
    }

    fn workspace(&self, id: WorkspaceId) -> Result<&Workspace, ViewError> {
        tree::workspace(&self.state, id).ok_or(ViewError::Gone)
    }

    fn past(&self, id: WorkspaceId) -> Result<&Past, ViewError> {
        self.pasts.get(&id).ok_or(ViewError::Gone)
    }

    fn drawn(&mut self, id: WorkspaceId, shell: ShellId) -> Result<Drawn, ViewError> {
        let Past { history, drawn, .. } = self.pasts.get_mut(&id).ok_or(ViewError::Gone)?;
        Ok(Drawn::new(id, shell, history.sizes(shell), Arc::clone(drawn.entry(shell).or_default())))
    }

    fn exists(&self, node: &Node) -> bool {
        let past = node.workspace().and_then(|id| self.pasts.get(&id));
        tree::exists(&self.state, past.map(|past| &past.history), node)
    }

    /// Returns how long a stream was at its end, in bytes; 0 as long as it may grow.
    fn told(&self, workspace: WorkspaceId, stream: StreamId) -> u64 {
        self.pasts.get(&workspace).map_or(0, |past| past.history.len_bytes(stream))
    }

    /// Tells whether a stream may grow.
    fn is_open(&self, workspace: WorkspaceId, stream: StreamId) -> bool {
        let Some(workspace) = tree::workspace(&self.state, workspace) else { return false };
        match stream {
            StreamId::Exec(exec, _) => workspace.open_execs.contains_key(&exec),
            StreamId::Shell(shell) => workspace.shells.get(&shell).is_some_and(|shell| shell.phase.is_open()),
        }
    }
}

const fn exec_of(event: &Event) -> Option<ExecNumber> {
    match event {
        Event::ExecExited(event) => Some(event.exec),
        Event::ExecFailed(event) => Some(event.exec),
        Event::ExecLost(event) => Some(event.exec),
        _ => None,
    }
}

impl View {
    /// Returns the tree of a log. `state` is the fold of its events up to [`State::seq`]; those behind it are read.
    #[must_use]
    pub fn new(state: State, reader: Reader, outputs: Outputs, host: Arc<dyn Host>) -> Self {
        let events = Arc::new(EventLines::new(reader.clone(), Arc::clone(&host), None));
        // What cannot be read now is told to those who read it.
        let last = reader.read(state.seq).next().and_then(Result::ok);
        let at = last.map_or_else(Timestamp::default, |envelope| envelope.at);
        let known = Known { state, at, pasts: HashMap::new(), changes: Vec::new() };
        Self {
            reader,
            outputs,
            host,
            known: Mutex::new(known),
            events,
            refusals: Mutex::default(),
            casts_input: false,
            has_kernel: true,
        }
    }

    /// Has it keep nothing of what changes: there is no kernel to be told of it.
    #[must_use]
    pub fn without_kernel(self) -> Self {
        Self { has_kernel: false, ..self }
    }

    /// Has the recordings of shells show what was typed, passwords included, or not.
    #[must_use]
    pub fn casting_input(self, casts_input: bool) -> Self {
        Self { casts_input, ..self }
    }

    pub(crate) fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// Returns what is known after the last durable event.
    fn known(&self) -> Result<MutexGuard<'_, Known>, ViewError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if self.reader.head().seq > known.state.seq {
            for envelope in self.reader.read(known.state.seq.next()) {
                known.see(&envelope?);
                if !self.has_kernel {
                    known.changes.clear();
                }
            }
        }
        Ok(known)
    }

    /// Returns what is known, with the past of the workspace that a node belongs to, if there is one.
    fn known_of(&self, node: &Node) -> Result<MutexGuard<'_, Known>, ViewError> {
        let mut known = self.known()?;
        let Some(id) = node.workspace().filter(|id| !known.pasts.contains_key(id)) else { return Ok(known) };
        if tree::workspace(&known.state, id).is_some() {
            let mut history = History::default();
            let last = known.state.seq;
            for envelope in self.reader.read_workspace(id, Seq(1)) {
                let envelope = envelope?;
                if envelope.seq > last {
                    break;
                }
                history.see(&envelope);
            }
            let events = EventLines::new(self.reader.clone(), Arc::clone(&self.host), Some(id));
            let logs = LogLines::new(Arc::clone(&self.host), id, Arc::clone(&history.ended));
            let past =
                Past { history, events: Arc::new(events), logs: Arc::new(logs), drawn: HashMap::new() };
            known.pasts.insert(id, past);
        }
        Ok(known)
    }

    /// Returns what has changed since the last call.
    pub(crate) fn changes(&self) -> Result<Vec<Change>, ViewError> {
        Ok(std::mem::take(&mut self.known()?.changes))
    }

    /// Returns what has a name in a directory.
    ///
    /// # Errors
    ///
    /// [`ViewError::Gone`] when nothing has.
    pub fn lookup(&self, parent: &Node, name: &str) -> Result<Node, ViewError> {
        if parent.kind() != Kind::Directory {
            return Err(ViewError::NotADirectory);
        }
        let node = tree::child(parent, name).ok_or(ViewError::Gone)?;
        if self.known_of(&node)?.exists(&node) { Ok(node) } else { Err(ViewError::Gone) }
    }

    /// Returns what a directory lists, with its names, without `.` and `..`.
    ///
    /// # Errors
    ///
    /// [`ViewError`] when it is not there or not a directory, or the log cannot be read.
    pub fn list(&self, node: &Node) -> Result<Vec<(String, Node)>, ViewError> {
        if node.kind() != Kind::Directory {
            return Err(ViewError::NotADirectory);
        }
        let known = self.known_of(node)?;
        if !known.exists(node) {
            return Err(ViewError::Gone);
        }
        let past = node.workspace().and_then(|id| known.pasts.get(&id));
        Ok(tree::children(&known.state, past.map(|past| &past.history), node))
    }

    /// Returns where a link leads.
    ///
    /// # Errors
    ///
    /// [`ViewError`] when it is not there or not a link, or the log cannot be read.
    pub fn target(&self, node: &Node) -> Result<String, ViewError> {
        let known = self.known()?;
        match node {
            Node::Named(name) => {
                tree::named(&known.state, name).map(|id| format!("../{id}")).ok_or(ViewError::Gone)
            }
            Node::InWorkspace(id, WorkspaceFile::Latest) => match known.workspace(*id)?.exec_count {
                0 => Err(ViewError::Gone),
                count => Ok(count.to_string()),
            },
            _ => Err(ViewError::NotALink),
        }
    }

    /// Returns what `stat` tells.
    ///
    /// # Errors
    ///
    /// [`ViewError`] when it is not there or what it is made of cannot be read.
    pub fn attributes(&self, node: &Node) -> Result<Attributes, ViewError> {
        let known = self.known_of(node)?;
        if !known.exists(node) {
            return Err(ViewError::Gone);
        }
        let (time, settled) = times(&known, node)?;
        let grows = node.stream().is_some_and(|(workspace, stream)| known.is_open(workspace, stream));
        let told = node.stream().filter(|_| !node.follows());
        let told = told.map_or(0, |(workspace, stream)| known.told(workspace, stream));
        drop(known);
        let (size, printed) = self.size(node)?;
        let size = size.max(told);
        let time = match printed {
            // What is done to the file after the end, to save space, is not told.
            Some(printed) if !grows => printed.min(time),
            Some(printed) => printed,
            None => time,
        };
        Ok(Attributes { kind: node.kind(), size, time, settled })
    }

    /// Returns the length of the content, and when the last of it was printed if that is what made it so.
    fn size(&self, node: &Node) -> Result<(u64, Option<Timestamp>), ViewError> {
        if node.follows() || node.kind() == Kind::Directory {
            return Ok((0, None));
        }
        if node.kind() == Kind::Link {
            return Ok((self.target(node)?.len() as u64, None));
        }
        if let Some((workspace, stream)) = node.stream() {
            return Ok(printed(&self.outputs, workspace, stream));
        }
        Ok((self.len_bytes(&self.open(node)?)?, None))
    }

    /// Returns the present length of an open file, in bytes.
    ///
    /// # Errors
    ///
    /// [`ViewError`] when what it is made of cannot be read.
    pub fn len_bytes(&self, content: &Content) -> Result<u64, ViewError> {
        Ok(match &content.0 {
            Held::Fixed(bytes) => bytes.len() as u64,
            Held::Stream(stream) => stream.len_bytes()?,
            Held::Events(lines) => lines.len_bytes()?,
            Held::Logs(lines) => {
                drop(self.known()?);
                lines.len_bytes()
            }
            Held::Cast(cast) => cast.len_bytes(),
        })
    }

    /// Returns the file that has the same bytes as a node; `None` when there is no such one.
    pub(crate) fn backing(&self, node: &Node) -> Option<PathBuf> {
        let (workspace, stream) = node.stream().filter(|_| !node.follows())?;
        let told = self.known_of(node).ok()?.told(workspace, stream);
        let path = self.outputs.path(workspace, stream);
        // The kernel would show the end of a file that has lost its own as the end of the stream.
        path.metadata().is_ok_and(|metadata| metadata.len() >= told).then_some(path)
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// [`ViewError`] when it is not there or what it is made of cannot be read.
    pub fn open(&self, node: &Node) -> Result<Content, ViewError> {
        let mut known = self.known_of(node)?;
        if !known.exists(node) {
            return Err(ViewError::Gone);
        }
        if let Some((workspace, stream)) = node.stream() {
            let told = known.told(workspace, stream);
            let file = StreamFile::open(&self.outputs, workspace, stream, told)?;
            return Ok(Content(Held::Stream(Arc::new(file))));
        }
        let text = match node {
            Node::Readme => README.to_owned(),
            Node::Events | Node::EventsFollow => return Ok(Content(Held::Events(Arc::clone(&self.events)))),
            Node::Manifest(name) => {
                let manifest = self.host.manifest(name).map_err(ViewError::Manifest)?;
                return Ok(fixed(manifest.ok_or(ViewError::Gone)?));
            }
            Node::InWorkspace(id, file) => match file {
                WorkspaceFile::Events => {
                    return Ok(Content(Held::Events(Arc::clone(&known.past(*id)?.events))));
                }
                WorkspaceFile::LogLines => {
                    return Ok(Content(Held::Logs(Arc::clone(&known.past(*id)?.logs))));
                }
                WorkspaceFile::Status => line(self.host.workspace(*id, known.workspace(*id)?)),
                WorkspaceFile::State => line(known.workspace(*id)?.phase.as_str().to_owned()),
                WorkspaceFile::LastError => self.refusal(*id),
                WorkspaceFile::Ctl
                | WorkspaceFile::Clone
                | WorkspaceFile::Exec
                | WorkspaceFile::Files
                | WorkspaceFile::Logs
                | WorkspaceFile::Latest
                | WorkspaceFile::Shells => String::new(),
            },
            Node::InLog(id, exec, file) => self.log_text(&known, *id, *exec, *file)?,
            Node::InShell(id, shell, file) => match file {
                ShellFile::Cast => {
                    let drawn = known.drawn(*id, *shell)?;
                    let typed = if self.casts_input { known.past(*id)?.history.typed(*shell) } else { &[] };
                    let typed = Typed { reader: self.reader.clone(), events: typed.to_vec() };
                    drop(known);
                    return Ok(Content(Held::Cast(drawn.cast(&self.outputs, typed)?)));
                }
                ShellFile::Screen | ShellFile::ScreenAnsi => {
                    let style = if *file == ShellFile::Screen { Style::Plain } else { Style::Ansi };
                    let drawn = known.drawn(*id, *shell)?;
                    drop(known);
                    drawn.screen(&self.outputs, style)?
                }
                ShellFile::Status => {
                    let shells = &known.workspace(*id)?.shells;
                    line(self.host.shell(*id, *shell, shells.get(shell).ok_or(ViewError::Gone)?))
                }
                ShellFile::Output | ShellFile::Follow | ShellFile::Input | ShellFile::Ctl => String::new(),
            },
            Node::Root
            | Node::Environments
            | Node::Environment(_)
            | Node::ByName
            | Node::Named(_)
            | Node::Workspace(_)
            | Node::Log(_, _)
            | Node::Shell(_, _) => String::new(),
        };
        Ok(fixed(text.into_bytes()))
    }

    fn log_text(
        &self,
        known: &Known,
        id: WorkspaceId,
        exec: ExecNumber,
        file: LogFile,
    ) -> Result<String, ViewError> {
        let record = known.past(id)?.history.exec(exec).ok_or(ViewError::Gone)?;
        let exit = || record.exit().ok_or(ViewError::Gone);
        Ok(line(match file {
            LogFile::Command => record.command.clone(),
            LogFile::Cwd => record.cwd.clone().unwrap_or_else(|| WORKSPACE_PATH.to_owned()),
            LogFile::ExitCode => exit()?.0.exit_code().to_string(),
            LogFile::DurationMs => exit()?.1.to_string(),
            LogFile::Status => self.host.exec(id, record),
            LogFile::Stdout | LogFile::StdoutFollow | LogFile::Stderr | LogFile::StderrFollow => {
                return Ok(String::new());
            }
        }))
    }

    /// Returns at most `size` bytes of an open file from an offset on; none at its end.
    ///
    /// # Errors
    ///
    /// [`ViewError`] when what it is made of cannot be read.
    pub fn read(&self, content: &Content, offset: u64, size: usize) -> Result<Vec<u8>, ViewError> {
        Ok(match &content.0 {
            Held::Fixed(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                bytes[start..bytes.len().min(start.saturating_add(size))].to_vec()
            }
            Held::Stream(stream) => stream.read(offset, size)?,
            Held::Events(lines) => lines.read(offset, size)?,
            Held::Logs(lines) => {
                drop(self.known()?);
                lines.read(offset, size)
            }
            Held::Cast(cast) => cast.read(offset, size)?,
        })
    }

    /// Returns what comes next in a file that is followed.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn follow(&self, content: &Content, offset: u64, size: usize) -> Result<Next, ViewError> {
        // In this order: what has ended is complete.
        let open = match &content.0 {
            Held::Stream(stream) => self.known()?.is_open(stream.workspace, stream.stream),
            Held::Events(_) => true,
            Held::Fixed(_) | Held::Logs(_) | Held::Cast(_) => false,
        };
        let bytes = self.read(content, offset, size)?;
        Ok(match (bytes.is_empty(), open) {
            (false, _) => Next::Bytes(bytes),
            (true, true) => Next::NotYet,
            (true, false) => Next::End,
        })
    }

    /// Returns the files in the guests of workspaces.
    pub(crate) fn files(&self) -> Arc<dyn Files> {
        self.host.files()
    }

    /// Keeps why something written below a workspace was refused.
    pub(crate) fn refused(&self, workspace: WorkspaceId, message: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.insert(workspace, message.to_owned());
    }

    fn refusal(&self, workspace: WorkspaceId) -> String {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.get(&workspace).map_or_else(String::new, |message| line(message.clone()))
    }

    /// Forgets what was kept of a workspace beside the log.
    pub(crate) fn forget(&self, workspace: WorkspaceId) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).remove(&workspace);
    }
}

fn line(mut text: String) -> String {
    text.push('\n');
    text
}

fn fixed(bytes: Vec<u8>) -> Content {
    Content(Held::Fixed(bytes.into()))
}

/// Returns how much of a stream was printed, and when the last of it was.
fn printed(outputs: &Outputs, workspace: WorkspaceId, stream: StreamId) -> (u64, Option<Timestamp>) {
    let Ok(metadata) = std::fs::metadata(outputs.path(workspace, stream)) else { return (0, None) };
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let at = modified.and_then(|since| u64::try_from(since.as_micros()).ok()).map(Timestamp);
    (metadata.len(), at)
}

/// Returns the time of the event that made a node what it is, and whether it stays so.
fn times(known: &Known, node: &Node) -> Result<(Timestamp, bool), ViewError> {
    Ok(match node {
        Node::Root
        | Node::Readme
        | Node::Events
        | Node::EventsFollow
        | Node::ByName
        | Node::Environments
        | Node::Environment(_)
        | Node::Manifest(_) => (known.at, false),
        Node::Named(name) => {
            let id = tree::named(&known.state, name).ok_or(ViewError::Gone)?;
            (known.workspace(id)?.created_at, false)
        }
        Node::Workspace(id) => (known.workspace(*id)?.created_at, true),
        // The kernel walks through these directories, and would ask for them each time.
        Node::InWorkspace(
            id,
            WorkspaceFile::Exec
            | WorkspaceFile::Clone
            | WorkspaceFile::Ctl
            | WorkspaceFile::Logs
            | WorkspaceFile::Shells,
        ) => (known.workspace(*id)?.created_at, true),
        Node::InWorkspace(id, _) => (known.past(*id)?.history.changed_at, false),
        Node::Log(id, exec) | Node::InLog(id, exec, _) => {
            let record = known.past(*id)?.history.exec(*exec).ok_or(ViewError::Gone)?;
            match (&record.end, node) {
                (Some(_), Node::InLog(_, _, LogFile::Command | LogFile::Cwd)) => (record.requested_at, true),
                (Some(end), _) => (end.at, true),
                (None, Node::InLog(_, _, LogFile::Command | LogFile::Cwd)) => (record.requested_at, true),
                (None, _) => (record.requested_at, false),
            }
        }
        Node::Shell(id, shell) | Node::InShell(id, shell, _) => {
            let shell = known.workspace(*id)?.shells.get(shell).ok_or(ViewError::Gone)?;
            match (&shell.phase, node) {
                (_, Node::InShell(_, _, ShellFile::Ctl | ShellFile::Input)) => (shell.requested_at, true),
                (ShellPhase::Ended { at, .. }, _) => (*at, false),
                (ShellPhase::Requested | ShellPhase::Running, _) => (shell.requested_at, false),
            }
        }
    })
}
