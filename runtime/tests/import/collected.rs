//! A sink that keeps what it gets and fails when it gets what a guest must never get.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use pyro_protocol::{COMPONENTS_MAX, CONTENT_MAX, Entry, EntryKind, PATH_LEN_MAX};
use pyro_runtime::import::{ReadError, Sink, Source, SourceError, Totals, check, read};

/// Entries with their content.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) entries: Vec<(Entry, Vec<u8>)>,
    /// What may have something below it: paths with whether they are directories.
    is_directory: HashMap<Vec<u8>, bool>,
}

impl Sink for Collected {
    type Error = std::convert::Infallible;

    fn entry(&mut self, entry: &Entry) -> Result<(), Self::Error> {
        self.check_last();
        self.check_entry(entry);
        self.is_directory.insert(entry.path.clone(), entry.kind == EntryKind::Directory);
        self.entries.push((entry.clone(), Vec::new()));
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        assert!(!bytes.is_empty() && bytes.len() <= CONTENT_MAX);
        self.entries.last_mut().unwrap().1.extend_from_slice(bytes);
        Ok(())
    }
}

impl Collected {
    /// Checks that a file got the content that its entry promised.
    fn check_last(&self) {
        if let Some((entry, content)) = self.entries.last() {
            let len = if let EntryKind::File { len } = entry.kind { len } else { 0 };
            assert_eq!(content.len() as u64, len, "{}", entry.path.escape_ascii());
        }
    }

    fn check_entry(&self, entry: &Entry) {
        let shown = entry.path.escape_ascii().to_string();
        assert!(entry.path.len() <= PATH_LEN_MAX && !entry.path.contains(&0), "{shown}");
        let names = entry.path.split(|byte| *byte == b'/').collect::<Vec<_>>();
        assert!(names.len() <= COMPONENTS_MAX, "{shown}");
        for name in &names {
            assert!(!name.is_empty() && *name != b"." && *name != b".." && name.len() <= 255, "{shown}");
        }
        for end in 1..names.len() {
            let parent = names[..end].join(&b'/');
            assert_ne!(self.is_directory.get(&parent), Some(&false), "{shown} is below something else");
        }
        let before = self.is_directory.get(&entry.path).copied();
        let is_removed = self.entries.iter().any(|(other, _)| other.kind == EntryKind::Absent);
        let is_directory = entry.kind == EntryKind::Directory;
        assert!(before.is_none_or(|before| before == is_directory || is_removed), "{shown} changes its kind");
        let mask = if is_directory { 0o1777 } else { 0o777 };
        assert!(entry.mode & !mask == 0 && entry.modified.nanoseconds < 1_000_000_000, "{shown}");
        match &entry.kind {
            EntryKind::Symlink { target } => {
                assert!(
                    !target.is_empty() && target.len() <= PATH_LEN_MAX && !target.contains(&0),
                    "{shown}"
                );
                assert!(stays_inside(&entry.path, target), "{shown} leads out");
            }
            EntryKind::HardLink { target } => {
                let is_file = |(other, _): &(Entry, Vec<u8>)| {
                    other.path == *target && matches!(other.kind, EntryKind::File { .. })
                };
                assert!(self.entries.iter().any(is_file), "{shown} is a link to no file");
            }
            EntryKind::Directory | EntryKind::File { .. } | EntryKind::Absent => (),
        }
    }

    /// Returns a line for each entry.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.entries
            .iter()
            .map(|(entry, content)| {
                let mut line = entry.path.escape_ascii().to_string();
                match &entry.kind {
                    EntryKind::Directory => line.push('/'),
                    EntryKind::File { .. } => write!(line, "={}", content.escape_ascii()).unwrap(),
                    EntryKind::Symlink { target } => write!(line, "->{}", target.escape_ascii()).unwrap(),
                    EntryKind::HardLink { target } => write!(line, "=>{}", target.escape_ascii()).unwrap(),
                    EntryKind::Absent => line.insert(0, '-'),
                }
                line
            })
            .collect()
    }

    /// Returns the entry at a path.
    pub(crate) fn get(&self, path: &str) -> &(Entry, Vec<u8>) {
        self.entries.iter().find(|(entry, _)| entry.path == path.as_bytes()).unwrap()
    }
}

/// Tells whether a link stays below the top, by a rule of its own: climbing is counted over the joined text.
fn stays_inside(path: &[u8], target: &[u8]) -> bool {
    if target[0] == b'/' {
        return true;
    }
    let dir = path.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |slash| &path[..slash]);
    let mut stack = Vec::new();
    for name in [dir, target].join(&b'/').split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => (),
            b".." if stack.pop().is_none() => return false,
            b".." => (),
            other => stack.push(other.to_vec()),
        }
    }
    true
}

/// Reads a source both ways, which have to agree.
pub(crate) fn collect(source: &Source) -> Result<Collected, SourceError> {
    let cancel = AtomicBool::new(false);
    let mut reported = Totals::default();
    let checked = check(source, &cancel, |totals| reported = totals);
    let mut collected = Collected::default();
    match (checked, read(source, &mut collected, &cancel)) {
        (Ok(checked), Ok(totals)) => {
            collected.check_last();
            let bytes = collected.entries.iter().map(|(_, content)| content.len() as u64).sum();
            assert_eq!(totals, Totals { entries: collected.entries.len() as u64, bytes });
            assert_eq!((checked, reported), (totals, totals));
            Ok(collected)
        }
        (Err(checked), Err(ReadError::Source(error))) => {
            assert_eq!(checked.to_string(), error.to_string());
            Err(error)
        }
        (checked, read) => panic!("the passes differ: {checked:?}, {read:?}"),
    }
}

/// Reads an archive of these bytes, under a name with this end.
pub(crate) fn collect_bytes(ending: &str, bytes: &[u8]) -> Result<Collected, SourceError> {
    let file = tempfile::Builder::new().suffix(ending).tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    collect(&detect(file.path()))
}

pub(crate) fn detect(path: &Path) -> Source {
    Source::detect(path).unwrap()
}
