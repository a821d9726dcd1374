//! Paths below a directory, as they come from the host.

use pyro_protocol::{COMPONENTS_MAX, PATH_LEN_MAX};

/// Longest name that a file system of a guest takes, in bytes.
const NAME_LEN_MAX: usize = 255;

/// An owned path: components that are neither empty nor `.` nor `..`, joined by `/`; empty for the directory itself.
///
/// It leads nowhere but down as long as none of its components is followed as a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryPath(Vec<u8>);

/// An [`EntryPath`] that is borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Below<'a>(&'a [u8]);

/// Bytes that are no path below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    /// A component leads elsewhere or nowhere.
    #[error("take a path with an empty, `.` or `..` component")]
    Component,
    /// The kernel would end the path at it.
    #[error("take a path with a zero byte")]
    Zero,
    /// It is longer than the protocol allows.
    #[error("take a path of more than {PATH_LEN_MAX} bytes or {COMPONENTS_MAX} components")]
    Long,
    /// A component is longer than file systems allow.
    #[error("take a path with a name of more than {NAME_LEN_MAX} bytes")]
    Name,
}

impl EntryPath {
    /// Checks and takes over the path.
    pub(crate) fn parse(path: Vec<u8>) -> Result<Self, PathError> {
        if path.is_empty() {
            return Ok(Self(path));
        }
        if path.len() > PATH_LEN_MAX {
            return Err(PathError::Long);
        }
        if path.contains(&0) {
            return Err(PathError::Zero);
        }
        let mut components = 0;
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." | b".." => return Err(PathError::Component),
                name if name.len() > NAME_LEN_MAX => return Err(PathError::Name),
                _ => components += 1,
            }
        }
        if components > COMPONENTS_MAX { Err(PathError::Long) } else { Ok(Self(path)) }
    }

    /// Checks an absolute path and returns it as one below `/`.
    pub(crate) fn parse_absolute(path: &[u8]) -> Result<Self, PathError> {
        Self::parse(path.strip_prefix(b"/").ok_or(PathError::Component)?.to_vec())
    }

    /// Returns the path of `name`, which a directory gave, in this directory.
    pub(crate) fn child(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    pub(crate) fn borrowed(&self) -> Below<'_> {
        Below(&self.0)
    }

    /// Returns directory and name; `None` for the directory itself.
    pub(crate) fn split(&self) -> Option<(Below<'_>, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (Below(&self.0[..slash]), &self.0[slash + 1..]),
            None => (Below(b""), &self.0),
        })
    }

    /// Returns whether it is `directory` or leads through it.
    pub(crate) fn is_in(&self, directory: &Self) -> bool {
        self.0.strip_prefix(directory.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> Below<'a> {
    /// Returns whether it is the directory itself.
    pub(crate) const fn is_root(self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn to_owned(self) -> EntryPath {
        EntryPath(self.0.to_vec())
    }

    pub(crate) fn components(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &[u8]) -> Result<EntryPath, PathError> {
        EntryPath::parse(path.to_vec())
    }

    #[test]
    fn a_path_leads_down() {
        for path in [&b"a"[..], b"a/b", b"...", b"a/..b", b"\xff\n/ ", b""] {
            assert_eq!(parse(path).map(|path| path.as_bytes().to_vec()), Ok(path.to_vec()));
        }
        for path in [&b"/"[..], b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"./a", b"a/."] {
            assert_eq!(parse(path), Err(PathError::Component), "{path:?}");
        }
        assert_eq!(parse(b"a\0b"), Err(PathError::Zero));
    }

    #[test]
    fn limits_are_the_longest_that_is_taken() {
        assert!(parse(&[b'a'; 255]).is_ok());
        assert_eq!(parse(&[b'a'; 256]), Err(PathError::Name));
        assert!(parse(&vec![b"a".as_slice(); 256].join(&b'/')).is_ok());
        assert_eq!(parse(&vec![b"a".as_slice(); 257].join(&b'/')), Err(PathError::Long));
        assert_eq!(parse(&vec![[b'a'; 255].as_slice(); 17].join(&b'/')), Err(PathError::Long));
    }

    #[test]
    fn the_destination_is_absolute() {
        assert_eq!(EntryPath::parse_absolute(b"/a/b"), parse(b"a/b"));
        assert_eq!(EntryPath::parse_absolute(b"/"), parse(b""));
        assert_eq!(EntryPath::parse_absolute(b"a"), Err(PathError::Component));
        assert_eq!(EntryPath::parse_absolute(b"//a"), Err(PathError::Component));
    }

    #[test]
    fn a_path_splits_before_its_name() {
        let path = parse(b"a/b/c").unwrap();
        let (directory, name) = path.split().unwrap();
        assert_eq!((directory.components().count(), name), (2, &b"c"[..]));
        assert!(EntryPath::default().split().is_none());
        assert!(path.is_in(&parse(b"a/b").unwrap()) && path.is_in(&path));
        assert!(!parse(b"ab").unwrap().is_in(&parse(b"a").unwrap()));
    }
}
