//! Where the tree of files is mounted unless somebody says otherwise.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::{ApiError, ErrorCode};

/// Returns `PYRO_MOUNT`, else `/mnt/pyro` for root, else `pyro/mnt` in `XDG_RUNTIME_DIR`.
///
/// # Errors
///
/// When no variable names it and the user is not root.
pub fn default_mount_point() -> Result<PathBuf, ApiError> {
    let place = resolve(|name| std::env::var_os(name), rustix::process::geteuid().is_root());
    place.ok_or_else(|| {
        let message = "no place for the mount: neither PYRO_MOUNT nor XDG_RUNTIME_DIR is set";
        ApiError::new(ErrorCode::InvalidArgument, message).with_hint("`pyro mount PATH` names one")
    })
}

fn resolve(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
    let set = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let root = || is_root.then(|| PathBuf::from("/mnt/pyro"));
    set("PYRO_MOUNT").or_else(root).or_else(|| set("XDG_RUNTIME_DIR").map(|dir| dir.join("pyro/mnt")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_before_defaults() {
        let with = |set: &[(&str, &str)], is_root| {
            let find =
                |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            resolve(find, is_root).map(|path| path.display().to_string())
        };
        let run = ("XDG_RUNTIME_DIR", "/run/user/7");
        assert_eq!(with(&[run, ("PYRO_MOUNT", "/m")], true).as_deref(), Some("/m"));
        assert_eq!(with(&[run, ("PYRO_MOUNT", "m")], true).as_deref(), Some("/mnt/pyro"));
        assert_eq!(with(&[run], false).as_deref(), Some("/run/user/7/pyro/mnt"));
        assert_eq!(with(&[], false), None);
    }
}
