//! How much a source may hold and how long it may be read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::SourceError;

/// Most bytes of content in one import. It has to find room in a guest twice, beside what it replaces.
pub const CONTENT_TOTAL_MAX: u64 = 4 << 30;

/// Most files, directories and links in one import, parents that an archive leaves out included. Each takes up to 64
/// bytes of memory while the source is read.
pub const ENTRIES_MAX: u64 = 1_000_000;

/// Longest extended header of an archive, in bytes: names take 4 KiB of it, the rest are attributes that are ignored.
pub const EXTENDED_LEN_MAX: u64 = 1 << 20;

/// Longest time for the check of a source. What takes longer is not a source but an attempt to keep a processor busy.
pub const CHECK_DURATION_MAX: Duration = Duration::from_secs(60);

/// Most zeros behind the end marker of an archive, in bytes: writers fill up their last record, of at most 1 MiB as a
/// rule, and a gzip stream can hold zeros without end.
pub(super) const PADDING_MAX: u64 = 4 << 20;

/// Most bytes of names that are remembered to recognise the further names of files.
pub(super) const LINKED_NAMES_MAX: usize = 64 << 20;

/// What one import may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most bytes of content.
    pub(super) bytes: u64,
    /// Most entries.
    pub(super) entries: u64,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self { bytes: CONTENT_TOTAL_MAX, entries: ENTRIES_MAX };
}

/// What ends the reading from outside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch<'a> {
    cancel: &'a AtomicBool,
    /// Until when, and how long that was from the start; `None` for no such time.
    deadline: Option<(Instant, Duration)>,
}

impl<'a> Watch<'a> {
    pub(super) const fn new(cancel: &'a AtomicBool) -> Self {
        Self { cancel, deadline: None }
    }

    pub(super) fn with_deadline(cancel: &'a AtomicBool, allowance: Duration) -> Self {
        Self { cancel, deadline: Some((Instant::now() + allowance, allowance)) }
    }

    /// Fails when the reading is to end.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(SourceError::Cancelled);
        }
        match self.deadline {
            Some((end, allowance)) if Instant::now() >= end => Err(SourceError::TooSlow { allowance }),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, Watch};
    use crate::import::{Source, SourceError, Totals, check_within};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::fs::{self, File};
    use std::io::{Read as _, Write as _, copy, repeat};
    use std::path::Path;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;
    use tempfile::TempDir;

    const MIB: u64 = 1 << 20;

    fn check(source: &Source, limits: Limits) -> Result<Totals, String> {
        let cancel = AtomicBool::new(false);
        check_within(source, limits, Watch::new(&cancel), |_| ()).map_err(|error| {
            assert!(error.is_refusal(), "{error}");
            error.to_string()
        })
    }

    fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(size);
        header.set_entry_type(kind);
        header.set_cksum();
        header
    }

    /// Writes a compressed archive of headers with that much content each; the end marker is added.
    fn archive(dir: &TempDir, headers: impl IntoIterator<Item = tar::Header>) -> Source {
        let path = dir.path().join("bomb.tar.gz");
        let mut to = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        for header in headers {
            to.write_all(header.as_bytes()).unwrap();
            copy(&mut repeat(0).take(header.size().unwrap().next_multiple_of(512)), &mut to).unwrap();
        }
        to.write_all(&[0; 1024]).unwrap();
        to.finish().unwrap();
        Source::Archive(path)
    }

    #[test]
    fn content_is_bounded_over_all_files() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["a", "b", "c"].map(|name| header(name, tar::EntryType::Regular, MIB));
        let bomb = archive(&dir, files);
        let limits = |bytes| Limits { bytes, ..Limits::DEFAULT };
        assert_eq!(check(&bomb, limits(3 * MIB)), Ok(Totals { entries: 3, bytes: 3 * MIB }));
        let refused = r#"entry "c" brings the content above the limit of 3 MiB"#;
        assert_eq!(check(&bomb, limits(3 * MIB - 1)), Err(refused.to_owned()));
        fs::remove_file(bomb.path()).unwrap();
        for name in ["a", "b", "c"] {
            File::create(dir.path().join(name)).unwrap().set_len(MIB).unwrap();
        }
        let tree = Source::Directory(dir.path().to_owned());
        assert_eq!(check(&tree, limits(3 * MIB)), Ok(Totals { entries: 3, bytes: 3 * MIB }));
        assert_eq!(check(&tree, limits(3 * MIB - 1)), Err(refused.to_owned()));
    }

    #[test]
    fn entries_are_bounded_with_the_parents_that_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let limits = |entries| Limits { entries, ..Limits::DEFAULT };
        let names = ["a/b/c", "a/d", "e"].map(|name| header(name, tar::EntryType::Regular, 0));
        let bomb = archive(&dir, names);
        assert_eq!(check(&bomb, limits(5)), Ok(Totals { entries: 3, bytes: 0 }));
        let refused = |name: &str, limit| {
            format!("entry \"{name}\" is one too many: the limit is {limit} files, directories and links")
        };
        assert_eq!(check(&bomb, limits(4)), Err(refused("e", 4)));
        assert_eq!(check(&bomb, limits(2)), Err(refused("a/b/c", 2)));
        // The same name again takes no room, but it is an entry.
        let again = archive(&dir, ["a", "a", "a"].map(|name| header(name, tar::EntryType::Regular, 0)));
        assert_eq!(check(&again, limits(2)), Err(refused("a", 2)));
        fs::remove_file(again.path()).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        for name in ["d/a", "d/b", "e"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let tree = Source::Directory(dir.path().to_owned());
        assert_eq!(check(&tree, limits(4)), Ok(Totals { entries: 4, bytes: 0 }));
        let text = "holds what is one too many: the limit is 3 files, directories and links";
        assert_eq!(check(&tree, limits(3)), Err(format!("entry \"d\" {text}")));
    }

    #[test]
    fn headers_about_nothing_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { entries: 2, ..Limits::DEFAULT };
        let nothing = |count| (0..count).map(|_| header("./", tar::EntryType::Directory, 0));
        assert_eq!(check(&archive(&dir, nothing(8)), limits), Ok(Totals::default()));
        let refused = r#"entry "./" has too many headers before it"#;
        assert_eq!(check(&archive(&dir, nothing(9)), limits), Err(refused.to_owned()));
        let global = (0..9).map(|_| header("g", tar::EntryType::XGlobalHeader, 0));
        let refused = r#"entry "g" has too many headers before it"#;
        assert_eq!(check(&archive(&dir, global), limits), Err(refused.to_owned()));
    }

    #[test]
    fn a_check_has_a_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let file = archive(&dir, [header("a", tar::EntryType::Regular, 0)]);
        let cancel = AtomicBool::new(false);
        for source in [file, Source::Directory(dir.path().to_owned())] {
            let watch = Watch::with_deadline(&cancel, Duration::ZERO);
            let error = check_within(&source, Limits::DEFAULT, watch, |_| ()).unwrap_err();
            assert!(matches!(error, SourceError::TooSlow { .. }) && error.is_refusal(), "{error}");
        }
    }

    #[test]
    fn a_missing_source_is_not_refused_but_wrong() {
        let cancel = AtomicBool::new(false);
        for source in [Source::Archive("/none.tar".into()), Source::Directory(Path::new("/none").into())] {
            let error = check_within(&source, Limits::DEFAULT, Watch::new(&cancel), |_| ()).unwrap_err();
            assert!(error.is_bad_argument() && !error.is_refusal(), "{error}");
        }
    }
}
