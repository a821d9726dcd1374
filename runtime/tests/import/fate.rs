//! Archives with what becomes of them.

use super::collected::collect_bytes;
use super::tar_bytes::{Tar, gzip};

/// What becomes of an archive.
pub(crate) enum Fate {
    /// It is refused with this text.
    Refused(String),
    /// Just these lines of [`Collected::lines`](super::collected::Collected::lines) are handed over.
    Contained(Vec<&'static str>),
}

/// What is wrong with an archive, the archive, and what becomes of it.
pub(crate) type Case = (&'static str, Vec<u8>, Fate);

pub(crate) fn refused(label: &'static str, tar: Tar, text: impl Into<String>) -> Case {
    (label, tar.end(), Fate::Refused(text.into()))
}

pub(crate) fn contained(label: &'static str, tar: Tar, lines: &[&'static str]) -> Case {
    (label, tar.end(), Fate::Contained(lines.to_vec()))
}

/// Reads each archive as it is and compressed, and fails with all that went otherwise.
pub(crate) fn run(cases: Vec<Case>) {
    let count = cases.len();
    let mut wrong = Vec::new();
    for (label, bytes, fate) in cases {
        for (ending, bytes) in [(".tar", bytes.clone()), (".tar.gz", gzip(&bytes))] {
            let got = collect_bytes(ending, &bytes);
            match (&fate, got) {
                (Fate::Refused(text), Err(error)) if error.is_refusal() && error.to_string() == *text => (),
                (Fate::Contained(lines), Ok(collected)) if collected.lines() == *lines => (),
                (Fate::Refused(text), Ok(collected)) => {
                    wrong.push(format!("{label}{ending}: {:?}, not: {text}", collected.lines()));
                }
                (_, Ok(collected)) => wrong.push(format!("{label}{ending}: {:?}", collected.lines())),
                (_, Err(error)) => wrong.push(format!("{label}{ending}: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "of {count}:\n{}", wrong.join("\n"));
}
