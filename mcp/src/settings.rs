//! What a server is told when it starts.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use pyro_api::Home;

/// What a server needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The home whose daemon is asked.
    pub home: Home,
    /// The program `pyro`, which is started as daemon when none runs.
    pub program: PathBuf,
    /// Which tools there are.
    pub profile: Profile,
    /// Directories from which files may be brought into workspaces; empty for all.
    pub allowed_paths: Vec<PathBuf>,
}

/// A choice of tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// One command in a machine that is deleted after it.
    VmRun,
    /// That, and workspaces without shells.
    WorkspaceCore,
    /// All tools.
    #[default]
    WorkspaceFull,
}

/// A text that names no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are the profiles vm-run, workspace-core and workspace-full")]
pub struct ProfileError;

impl Profile {
    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VmRun => "vm-run",
            Self::WorkspaceCore => "workspace-core",
            Self::WorkspaceFull => "workspace-full",
        }
    }

    /// Tells whether a tool is one of this profile.
    pub(crate) fn has(self, tool: &str) -> bool {
        match self {
            Self::VmRun => tool == "vm_run",
            Self::WorkspaceCore => tool == "vm_run" || tool.starts_with("workspace_"),
            Self::WorkspaceFull => true,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let profiles = [Self::VmRun, Self::WorkspaceCore, Self::WorkspaceFull];
        profiles.into_iter().find(|profile| profile.as_str() == text).ok_or(ProfileError)
    }
}
