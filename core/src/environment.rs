//! The catalog of environments: what a guest's root file system can be.

use core::fmt;
use core::str::FromStr;

use alloc::borrow::ToOwned as _;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::rejection::Rejection;

/// Name of an environment of the catalog, such as `debian:12`.
///
/// Holding one proves that the name was in the catalog of the program that made it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EnvironmentName(String);

impl EnvironmentName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EnvironmentName {
    type Err = Rejection;

    fn from_str(text: &str) -> Result<Self, Rejection> {
        if CATALOG.iter().any(|entry| entry.name == text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Rejection::UnknownEnvironment { name: text.to_owned() })
        }
    }
}

/// One environment that this version of pyro knows how to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Stable name, as users type it.
    pub name: &'static str,
    /// Version of the recipe; a new version is a new installation.
    pub version: &'static str,
    /// One sentence for people.
    pub description: &'static str,
    /// Packages that users can rely on, by their Debian names.
    pub default_packages: &'static [&'static str],
}

/// All environments, sorted by name.
pub const CATALOG: &[CatalogEntry] = &[
    CatalogEntry {
        name: "debian:12",
        version: "1.0.0",
        description: "Debian 12 with Git, the default for agents.",
        default_packages: &["bash", "coreutils", "git"],
    },
    CatalogEntry {
        name: "debian:12-base",
        version: "1.0.0",
        description: "Debian 12 with little more than a shell.",
        default_packages: &["bash", "coreutils"],
    },
    CatalogEntry {
        name: "debian:12-build",
        version: "1.0.0",
        description: "Debian 12 with Git and build tools.",
        default_packages: &["bash", "coreutils", "git", "gcc", "make", "cmake", "python3"],
    },
];
