//! Names and targets in the form in which the guest gets them.

use pyro_protocol::{COMPONENTS_MAX, PATH_LEN_MAX};

/// Longest component of a path, in bytes, on every file system of Linux.
const COMPONENT_LEN_MAX: usize = 255;

/// A name of an archive, reduced to a path below the destination.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Components that are neither empty nor `.` nor `..`, joined by `/`; empty for the destination itself.
    pub(super) path: Vec<u8>,
    /// Whether the text can only name a directory, because it ends with a slash or a `.`.
    pub(super) is_directory: bool,
}

impl Name {
    /// Reduces a name, or says which rule it breaks.
    pub(super) fn parse(text: &[u8]) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("has an empty name");
        }
        if text.len() > PATH_LEN_MAX {
            return Err("has a name of more than 4096 bytes");
        }
        if text.contains(&0) {
            return Err("has a NUL in its name");
        }
        if text[0] == b'/' {
            return Err("has an absolute name");
        }
        let mut path = Vec::with_capacity(text.len());
        let mut components = 0;
        let mut last: &[u8] = b"";
        for component in text.split(|byte| *byte == b'/') {
            last = component;
            match component {
                b"" | b"." => continue,
                b".." => return Err("has a name with a .. component"),
                _ if component.len() > COMPONENT_LEN_MAX => {
                    return Err("has a name with a component of more than 255 bytes");
                }
                _ => (),
            }
            components += 1;
            if components > COMPONENTS_MAX {
                return Err(TOO_DEEP);
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        Ok(Self { path, is_directory: last.is_empty() || last == b"." })
    }
}

/// Says that a path has more than `COMPONENTS_MAX` components.
pub(super) const TOO_DEEP: &str = "has a name of more than 256 components";

/// Looks at the target of the symbolic link at `path`, or says which rule it breaks.
///
/// Only the text counts. A target that leads elsewhere through other links still stays in the guest, where alone it is
/// ever followed.
pub(super) fn check_target(path: &[u8], target: &[u8]) -> Result<(), &'static str> {
    if target.is_empty() {
        return Err("is a link without a target");
    }
    if target.len() > PATH_LEN_MAX {
        return Err("is a link with a target of more than 4096 bytes");
    }
    if target.contains(&0) {
        return Err("is a link with a NUL in its target");
    }
    if target[0] == b'/' {
        return Ok(());
    }
    let mut depth = path.iter().filter(|byte| **byte == b'/').count();
    for component in target.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => (),
            b".." => depth = depth.checked_sub(1).ok_or("is a link that leads out of the workspace")?,
            _ => depth += 1,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Name, check_target};

    #[test]
    fn names_are_reduced_and_never_climb() {
        let cases: [(&[u8], &[u8], bool); 8] = [
            (b"a", b"a", false),
            (b"./a//b/./c", b"a/b/c", false),
            (b"a/", b"a", true),
            (b"a/.", b"a", true),
            (b".", b"", true),
            (b".//./", b"", true),
            (b"...", b"...", false),
            (b"a\\..\\b", b"a\\..\\b", false),
        ];
        for (text, path, is_directory) in cases {
            assert_eq!(Name::parse(text).unwrap(), Name { path: path.to_vec(), is_directory });
        }
        for text in ["", "/", "/a", "..", "a/..", "a/../b", "./..", "a\0b"] {
            Name::parse(text.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn names_keep_their_limits_exactly() {
        Name::parse(&[b'n'; 255]).unwrap();
        Name::parse(&[b'n'; 256]).unwrap_err();
        let deep = |components: usize| vec!["d"; components].join("/").into_bytes();
        Name::parse(&deep(256)).unwrap();
        Name::parse(&deep(257)).unwrap_err();
        Name::parse(&b"./".repeat(2048)).unwrap();
        Name::parse(&b"./".repeat(2049)).unwrap_err();
    }

    #[test]
    fn targets_may_climb_to_the_destination_but_not_further() {
        for (path, target) in [
            ("node_modules/.bin/tool", "../tool/cli.js"),
            ("a/b/c", "../.."),
            ("a/b", "./..//a/./b"),
            ("a", "b/../c"),
            ("python", "/usr/bin/python3"),
            ("a", "a"),
        ] {
            check_target(path.as_bytes(), target.as_bytes()).unwrap();
        }
        for (path, target) in [("a", ".."), ("a/b", "../.."), ("a", "b/../../c"), ("a", ""), ("a", "x\0")] {
            check_target(path.as_bytes(), target.as_bytes()).unwrap_err();
        }
        check_target(b"a", &[b't'; 4096]).unwrap();
        check_target(b"a", &[b't'; 4097]).unwrap_err();
    }
}
