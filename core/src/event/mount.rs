//! What happens to the mounts: where the tree of files is shown.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// The tree of files is shown at a place from now on, by this daemon and by those that follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mounted {
    /// The directory; absolute.
    pub path: String,
    /// Whether other users can look into it.
    pub allow_other: bool,
}

/// The tree of files is not shown at a place any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmounted {
    /// The directory; absolute.
    pub path: String,
}
