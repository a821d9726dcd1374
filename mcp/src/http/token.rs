//! The token that lets a client in: a file that only its owner can read.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use blake3::Hash;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

/// Random bytes of a token that is made here; it is written in twice as many hexadecimal digits.
const RANDOM_LEN: usize = 32;

/// Fewest and most characters of a token that somebody else wrote into the file.
const CHARACTERS: std::ops::RangeInclusive<usize> = 16..=1024;

/// Why a file with a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read or made.
    #[error("failed to use the token file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others could have read or written it.
    #[error("the token file {path} {what}; `chmod 600` it, or remove it to have another one made")]
    Lax {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// What is in it is no token.
    #[error("the token file {0} has to hold one line of 16 to 1,024 visible characters")]
    Content(PathBuf),
}

/// What a client has to say. Only its digest is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token(Hash);

impl Token {
    /// Reads the token of a file, which is made when it is missing.
    pub(crate) fn of_file(path: &Path) -> Result<Self, TokenError> {
        let failed = |source: io::Error| TokenError::File { path: path.to_owned(), source };
        let made = make(path);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(failed(error));
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file: File = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::LOOP) => {
                return Err(TokenError::Lax { path: path.to_owned(), what: "is a symbolic link" });
            }
            Err(error) => return Err(failed(error.into())),
        };
        let metadata = file.metadata().map_err(failed)?;
        let lax = |what| Err(TokenError::Lax { path: path.to_owned(), what });
        if !metadata.is_file() {
            return lax("is not a regular file");
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return lax("belongs to another user");
        }
        if metadata.mode() & 0o077 != 0 {
            return lax("is open to other users");
        }
        let mut text = String::new();
        let limit = u64::try_from(*CHARACTERS.end()).unwrap_or(u64::MAX) + 2;
        (&mut file).take(limit).read_to_string(&mut text).map_err(failed)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        if !CHARACTERS.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Content(path.to_owned()));
        }
        Ok(Self::of(text))
    }

    fn of(text: &str) -> Self {
        Self(blake3::hash(text.as_bytes()))
    }

    /// Tells whether a client said it. The time that takes says nothing about how much of it was right.
    pub(crate) fn is(&self, said: &[u8]) -> bool {
        // Hashes are compared in constant time.
        self.0 == blake3::hash(said)
    }
}

fn make(path: &Path) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file: File = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?.into();
    let mut random = [0; RANDOM_LEN];
    let mut filled = 0;
    while filled < RANDOM_LEN {
        filled += rustix::rand::getrandom(&mut random[filled..], GetRandomFlags::empty())?;
    }
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let written = writeln!(file, "{digits}").and_then(|()| file.sync_all());
    if written.is_err() {
        // What is there is no token. If it stays, it is refused.
        let _removed = std::fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// Catches a token that others can read or guess, and one that changes with each start.
    #[test]
    fn a_missing_file_is_made_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let made = Token::of_file(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!((fs::metadata(&path).unwrap().mode() & 0o777, text.len()), (0o600, 2 * RANDOM_LEN + 1));
        assert!(made.is(text.trim().as_bytes()) && Token::of_file(&path).unwrap().is(text.trim().as_bytes()));
        assert!(!made.is(b"") && !made.is(text.as_bytes()) && !made.is(&text.as_bytes()[..63]));
        let other = dir.path().join("other");
        assert!(!Token::of_file(&other).unwrap().is(text.trim().as_bytes()));
    }

    /// Catches a file that somebody else chose.
    #[test]
    fn a_file_that_is_not_the_owners_alone_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "0123456789abcdef\n").unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Token::of_file(&path), Err(TokenError::Lax { .. })), "{mode:o}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(Token::of_file(&path).unwrap().is(b"0123456789abcdef"));
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(Token::of_file(&link), Err(TokenError::Lax { what: "is a symbolic link", .. })));
        assert!(matches!(Token::of_file(dir.path()), Err(TokenError::Lax { .. } | TokenError::File { .. })));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let long = "x".repeat(1025);
        for content in
            ["", "short\n", "0123456789 abcdef\n", "0123456789abcdef\n\n", "0123456789abcdeé\n", &long]
        {
            fs::write(&path, content).unwrap();
            assert!(matches!(Token::of_file(&path), Err(TokenError::Content(_))), "{content:?}");
        }
    }
}
