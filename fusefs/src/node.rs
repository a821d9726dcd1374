//! What can be in the tree.

use pyro_core::{ExecNumber, ShellId, WorkspaceId};
use pyro_store::outputs::{Stream, StreamId};

/// A file, directory or link of the tree. It names a place; whether something is there is up to the state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// The top.
    Root,
    /// What the tree is, for people.
    Readme,
    /// All events.
    Events,
    /// All events and those to come.
    EventsFollow,
    /// The installed environments.
    Environments,
    /// One installed environment, by its name.
    Environment(String),
    /// What was installed as an environment.
    Manifest(String),
    /// The names of workspaces.
    ByName,
    /// The link of one name.
    Named(String),
    /// A workspace.
    Workspace(WorkspaceId),
    /// Something right below a workspace.
    InWorkspace(WorkspaceId, WorkspaceFile),
    /// A command of a workspace.
    Log(WorkspaceId, ExecNumber),
    /// Something of a command.
    InLog(WorkspaceId, ExecNumber, LogFile),
    /// A shell of a workspace.
    Shell(WorkspaceId, ShellId),
    /// Something of a shell.
    InShell(WorkspaceId, ShellId, ShellFile),
}

/// What is right below a workspace, and what has its place in the directories there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkspaceFile {
    /// What `pyro workspace status --json` prints.
    Status,
    /// Where it is in its life, in one word.
    State,
    /// Its events.
    Events,
    /// The live files of its guest.
    Files,
    /// Its commands that have ended.
    LogLines,
    /// Why something written was refused last.
    LastError,
    /// Takes commands for it.
    Ctl,
    /// The directory of [`Clone`](Self::Clone).
    Exec,
    /// Takes a command for its guest and gives its number.
    Clone,
    /// The directory of its commands.
    Logs,
    /// The link to the last command.
    Latest,
    /// The directory of its shells.
    Shells,
}

impl WorkspaceFile {
    /// Those that a workspace's directory lists, with their names.
    pub(crate) const LISTED: [(&str, Self); 10] = [
        ("ctl", Self::Ctl),
        ("events.jsonl", Self::Events),
        ("exec", Self::Exec),
        ("files", Self::Files),
        ("last_error", Self::LastError),
        ("logs", Self::Logs),
        ("logs.jsonl", Self::LogLines),
        ("shells", Self::Shells),
        ("state", Self::State),
        ("status.json", Self::Status),
    ];
}

/// What there is of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogFile {
    /// The command line.
    Command,
    /// The directory that it runs in.
    Cwd,
    /// Its standard output.
    Stdout,
    /// Its standard output and what comes.
    StdoutFollow,
    /// Its standard error.
    Stderr,
    /// Its standard error and what comes.
    StderrFollow,
    /// Its exit code.
    ExitCode,
    /// How long it ran.
    DurationMs,
    /// All that is known of it.
    Status,
}

impl LogFile {
    /// All of them, with their names.
    pub(crate) const ALL: [(&str, Self); 9] = [
        ("command", Self::Command),
        ("cwd", Self::Cwd),
        ("duration_ms", Self::DurationMs),
        ("exit_code", Self::ExitCode),
        ("status.json", Self::Status),
        ("stderr", Self::Stderr),
        ("stderr.follow", Self::StderrFollow),
        ("stdout", Self::Stdout),
        ("stdout.follow", Self::StdoutFollow),
    ];

    /// Tells whether a directory lists it.
    pub(crate) const fn is_listed(self) -> bool {
        !matches!(self, Self::StdoutFollow | Self::StderrFollow)
    }

    /// Tells whether it is there only when the command has ended with an exit code.
    pub(crate) const fn needs_exit(self) -> bool {
        matches!(self, Self::ExitCode | Self::DurationMs)
    }
}

/// What there is of a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShellFile {
    /// What it printed.
    Output,
    /// What it printed and what comes.
    Follow,
    /// What its terminal shows.
    Screen,
    /// What its terminal shows, with colours.
    ScreenAnsi,
    /// A recording.
    Cast,
    /// Takes what is to be typed.
    Input,
    /// Takes commands for it.
    Ctl,
    /// All that is known of it.
    Status,
}

impl ShellFile {
    /// All of them, with their names.
    pub(crate) const ALL: [(&str, Self); 8] = [
        ("cast", Self::Cast),
        ("ctl", Self::Ctl),
        ("follow", Self::Follow),
        ("input", Self::Input),
        ("output", Self::Output),
        ("screen", Self::Screen),
        ("screen.ansi", Self::ScreenAnsi),
        ("status.json", Self::Status),
    ];

    /// Tells whether a directory lists it.
    pub(crate) const fn is_listed(self) -> bool {
        !matches!(self, Self::Follow)
    }
}

impl Node {
    /// Returns the workspace that it belongs to; `None` for what belongs to none.
    #[must_use]
    pub const fn workspace(&self) -> Option<WorkspaceId> {
        match self {
            Self::Workspace(id)
            | Self::InWorkspace(id, _)
            | Self::Log(id, _)
            | Self::InLog(id, _, _)
            | Self::Shell(id, _)
            | Self::InShell(id, _, _) => Some(*id),
            Self::Root
            | Self::Readme
            | Self::Events
            | Self::EventsFollow
            | Self::Environments
            | Self::Environment(_)
            | Self::Manifest(_)
            | Self::ByName
            | Self::Named(_) => None,
        }
    }

    /// Returns the shell that it belongs to; `None` for what belongs to none.
    #[must_use]
    pub const fn shell(&self) -> Option<ShellId> {
        match self {
            Self::Shell(_, shell) | Self::InShell(_, shell, _) => Some(*shell),
            _ => None,
        }
    }

    /// Returns the output stream whose bytes it shows; `None` when it shows something else.
    pub(crate) const fn stream(&self) -> Option<(WorkspaceId, StreamId)> {
        match self {
            Self::InLog(id, exec, LogFile::Stdout | LogFile::StdoutFollow) => {
                Some((*id, StreamId::Exec(*exec, Stream::Stdout)))
            }
            Self::InLog(id, exec, LogFile::Stderr | LogFile::StderrFollow) => {
                Some((*id, StreamId::Exec(*exec, Stream::Stderr)))
            }
            Self::InShell(id, shell, ShellFile::Output | ShellFile::Follow) => {
                Some((*id, StreamId::Shell(*shell)))
            }
            _ => None,
        }
    }

    /// Tells whether a read of it waits for more.
    #[must_use]
    pub const fn follows(&self) -> bool {
        matches!(
            self,
            Self::EventsFollow
                | Self::InLog(_, _, LogFile::StdoutFollow | LogFile::StderrFollow)
                | Self::InShell(_, _, ShellFile::Follow)
        )
    }

    /// Tells whether it takes what is written.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        matches!(
            self,
            Self::InWorkspace(_, WorkspaceFile::Ctl | WorkspaceFile::Clone)
                | Self::InShell(_, _, ShellFile::Ctl | ShellFile::Input)
        )
    }
}
