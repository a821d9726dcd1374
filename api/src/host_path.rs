//! Paths of the host in requests. The daemon has another working directory and perhaps another home, so it gets them in
//! full.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{ApiError, ErrorCode};

/// Returns the path without links and relative parts. A `~` at its beginning is the user's home, also where no shell
/// has seen it, as in `--seed-path=~/src`.
///
/// # Errors
///
/// When nothing is there, or when the path is not UTF-8.
pub fn resolve_host_path(path: &str) -> Result<String, ApiError> {
    let found = std::fs::canonicalize(expand(path, std::env::var_os("HOME"))?)
        .map_err(|error| unusable(format_args!("failed to find {path}: {error}")))?;
    let text = found.into_os_string().into_string();
    text.map_err(|found| unusable(format_args!("the path {} is not UTF-8", found.display())))
}

fn expand(path: &str, home: Option<OsString>) -> Result<PathBuf, ApiError> {
    let below = match path.strip_prefix('~') {
        Some(below) if below.is_empty() || below.starts_with('/') => below.trim_start_matches('/'),
        _ => return Ok(PathBuf::from(path)),
    };
    match home.filter(|home| !home.is_empty()) {
        Some(home) => Ok(Path::new(&home).join(below)),
        None => Err(unusable(format_args!("failed to find {path}: HOME is not set"))),
    }
}

fn unusable(message: std::fmt::Arguments<'_>) -> ApiError {
    ApiError::new(ErrorCode::SourceUnusable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tilde_is_the_home_only_alone_or_before_a_slash() {
        let table = [
            ("~", "/h/"),
            ("~/src", "/h/src"),
            ("~//src", "/h/src"),
            ("~user/src", "~user/src"),
            ("a/~", "a/~"),
            ("", ""),
        ];
        for (path, expected) in table {
            assert_eq!(expand(path, Some("/h".into())).unwrap(), Path::new(expected), "{path}");
        }
        assert_eq!(expand("~/src", None).unwrap_err().code, ErrorCode::SourceUnusable);
    }

    #[test]
    fn links_are_followed_and_what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let path = dir.path().join("link/../link/.");
        assert_eq!(resolve_host_path(path.to_str().unwrap()).unwrap(), real.to_str().unwrap());
        let error = resolve_host_path("/nonexistent/x").unwrap_err();
        assert!(
            error.code == ErrorCode::SourceUnusable && error.message.contains("/nonexistent/x"),
            "{error}"
        );
    }
}
