//! What `stat` tells.

use pyro_core::Timestamp;

use crate::node::{Node, WorkspaceFile};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has other nodes below it.
    Directory,
    /// It has content.
    File,
    /// It leads to another node.
    Link,
}

/// What is to tell about a node without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: Kind,
    /// Length of its content, in bytes; 0 for a directory.
    pub size: u64,
    /// When it became what it is.
    pub time: Timestamp,
    /// Whether it stays so as long as it is there.
    pub settled: bool,
}

impl Node {
    /// Returns what it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Root
            | Self::Environments
            | Self::Environment(_)
            | Self::ByName
            | Self::Workspace(_)
            | Self::InWorkspace(
                _,
                WorkspaceFile::Exec | WorkspaceFile::Files | WorkspaceFile::Logs | WorkspaceFile::Shells,
            )
            | Self::Log(_, _)
            | Self::Shell(_, _) => Kind::Directory,
            Self::Named(_) | Self::InWorkspace(_, WorkspaceFile::Latest) => Kind::Link,
            Self::Readme
            | Self::Events
            | Self::EventsFollow
            | Self::Manifest(_)
            | Self::InWorkspace(_, _)
            | Self::InLog(_, _, _)
            | Self::InShell(_, _, _) => Kind::File,
        }
    }

    /// Returns its permissions: all can look, and the owner can write where something can be written.
    #[must_use]
    pub const fn permissions(&self) -> u16 {
        match self.kind() {
            Kind::Directory => 0o555,
            Kind::Link => 0o777,
            Kind::File if self.is_writable() => 0o644,
            Kind::File => 0o444,
        }
    }
}
