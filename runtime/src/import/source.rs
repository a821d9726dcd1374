//! What a seed or sync is given: a directory or an archive.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::error::SourceError;

/// Endings of the names of archives.
const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// Where files come from. The path is absolute and holds no links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory, with all that is in it.
    Directory(PathBuf),
    /// A tar archive, compressed with gzip or not as its name says.
    Archive(PathBuf),
}

impl Source {
    /// Finds out what a path leads to. The end of an archive's name says how it is compressed: `.tar`, `.tar.gz` or
    /// `.tgz`, in any case.
    ///
    /// # Errors
    ///
    /// Nothing is there, it is of no kind that can be read, or the path cannot be followed.
    pub fn detect(path: &Path) -> Result<Self, SourceError> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => SourceError::Missing { path: path.to_owned() },
            _ => SourceError::Unreadable { path: path.to_owned(), source: error },
        };
        let resolved = fs::canonicalize(path).map_err(unreadable)?;
        let metadata = fs::metadata(&resolved).map_err(unreadable)?;
        if metadata.is_dir() {
            return Ok(Self::Directory(resolved));
        }
        if !metadata.is_file() {
            let reason = format!("{path:?} is neither a directory nor a regular file");
            return Err(SourceError::Unsupported { path: resolved, reason });
        }
        match unsupported_ending(resolved.file_name().unwrap_or_default()) {
            None => Ok(Self::Archive(resolved)),
            Some(ending) => {
                let reason = format!("{ending} is not supported; use .tar, .tar.gz or .tgz");
                Err(SourceError::Unsupported { path: resolved, reason })
            }
        }
    }

    /// Returns the word of the command line's contract for it: `directory` or `tar_archive`.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::Directory(_) => "directory",
            Self::Archive(_) => "tar_archive",
        }
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Archive(path) => path,
        }
    }
}

/// Returns the end of a name that is not an archive's, escaped for people; `None` for one that is.
fn unsupported_ending(name: &OsStr) -> Option<String> {
    let name = name.as_bytes().to_ascii_lowercase();
    if ENDINGS.iter().any(|ending| name.ends_with(ending.as_bytes())) {
        return None;
    }
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else {
        return Some("a file without an ending".to_owned());
    };
    let start = if name[..dot].ends_with(b".tar") { dot - b".tar".len() } else { dot };
    Some(name[start..].escape_ascii().to_string())
}

/// Tells whether the name of an archive says that it is compressed.
pub(super) fn says_gzip(path: &Path) -> bool {
    !path.as_os_str().as_bytes().to_ascii_lowercase().ends_with(b".tar")
}

#[cfg(test)]
mod tests {
    use super::{Source, SourceError};
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_ending_decides_in_any_case() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.tar", "b.TAR.GZ", "c.Tgz", ".tar"] {
            fs::write(dir.path().join(name), "").unwrap();
            let source = Source::detect(&dir.path().join(name)).unwrap();
            assert_eq!((source.mode(), source.path().ends_with(name)), ("tar_archive", true));
        }
        assert_eq!(Source::detect(dir.path()).unwrap().mode(), "directory");
        let refused = [
            ("a.tar.xz", ".tar.xz is not supported; use .tar, .tar.gz or .tgz"),
            ("a.tar.ZST", ".tar.zst is not supported; use .tar, .tar.gz or .tgz"),
            ("a.zip", ".zip is not supported; use .tar, .tar.gz or .tgz"),
            ("a.gz", ".gz is not supported; use .tar, .tar.gz or .tgz"),
            ("tar", "a file without an ending is not supported; use .tar, .tar.gz or .tgz"),
            ("a.\u{1b}", r".\x1b is not supported; use .tar, .tar.gz or .tgz"),
        ];
        for (name, text) in refused {
            fs::write(dir.path().join(name), "").unwrap();
            let error = Source::detect(&dir.path().join(name)).unwrap_err();
            assert!(error.to_string() == text && error.is_bad_argument() && !error.is_refusal(), "{error}");
        }
    }

    #[test]
    fn links_are_followed_to_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.tar"), "").unwrap();
        symlink("a.tar", dir.path().join("latest")).unwrap();
        let resolved = fs::canonicalize(dir.path()).unwrap().join("a.tar");
        assert_eq!(Source::detect(&dir.path().join("latest")).unwrap(), Source::Archive(resolved));
        symlink("nowhere", dir.path().join("dangling.tar")).unwrap();
        for name in ["dangling.tar", "none"] {
            let error = Source::detect(&dir.path().join(name)).unwrap_err();
            assert!(matches!(error, SourceError::Missing { .. }) && error.is_bad_argument(), "{error}");
        }
        let _listener = UnixListener::bind(dir.path().join("socket.tar")).unwrap();
        let error = Source::detect(&dir.path().join("socket.tar")).unwrap_err();
        assert!(error.to_string().ends_with("is neither a directory nor a regular file"), "{error}");
    }
}
